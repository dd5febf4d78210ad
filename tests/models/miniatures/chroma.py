"""Chroma, with guidance."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae


@miniature
def chroma(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": 4 * LATENTS, "joint_attention_dim": TEXT_DIM, "axes_dims_rope": (4, 2, 2)}
    sizes |= {"approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1}
    return diffusers.ChromaPipeline(
        **t5(),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.ChromaTransformer2DModel(**sizes | config),
    )


CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 24}
CASES = (Case("chroma", chroma, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True),)
