"""Mochi 1."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5


def _vae() -> Any:
    return diffusers.AutoencoderKLMochi(
        latent_channels=4,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    ).eval()


@miniature
def mochi(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "pooled_projection_dim": 24}
    sizes |= {"in_channels": 4, "text_embed_dim": TEXT_DIM, "time_embed_dim": 4, "max_sequence_length": 16}
    return diffusers.MochiPipeline(
        **t5(),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        transformer=diffusers.MochiTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 7, "max_sequence_length": 16}
CASES = (
    Case(
        "mochi",
        mochi,
        TEXTS,
        {"guidance_scale": 1.0},
        {},
        CALL,
        resized={"height": 96},
        output="frames",
        flow=True,
        scores={"norm": 1.0},
        slow=True,
    ),
)
