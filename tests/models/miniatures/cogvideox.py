"""CogVideoX, with the rotary positions of its 5B."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5


def _vae() -> Any:
    return diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()


@miniature
def cogvideox(**config: Any) -> Any:
    # its rotary embedding shares the channels of a head as 1 : 3 : 3
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 16}
    sizes |= {"in_channels": 4, "out_channels": 4, "text_embed_dim": TEXT_DIM, "max_text_seq_length": 16}
    sizes |= {"sample_width": 8, "sample_height": 8, "sample_frames": 9, "use_rotary_positional_embeddings": True}
    return diffusers.CogVideoXPipeline(
        **t5(),
        vae=_vae(),
        scheduler=diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        transformer=diffusers.CogVideoXTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 16}
COGVIDEOX = Case(
    "cogvideox",
    cogvideox,
    TEXTS,
    {"guidance_scale": 1.0},
    {},
    CALL,
    resized={"height": 96},
    output="frames",
    flow=True,
)
CASES = (COGVIDEOX,)
