"""LTX-Video."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5


def _vae() -> Any:
    halves = (True, True, False, False)
    return diffusers.AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=halves,
        decoder_spatio_temporal_scaling=halves,
        patch_size=1,
    ).eval()


@miniature
def ltx(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
    sizes |= {"in_channels": 4, "out_channels": 4, "caption_channels": TEXT_DIM}
    return diffusers.LTXPipeline(
        **t5(),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.LTXVideoTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 16}
LTX = Case("ltx", ltx, TEXTS, {"guidance_scale": 1.0}, {}, CALL, resized={"height": 64}, output="frames", flow=True)
CASES = (LTX,)
