"""Bria 3.2."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae


@miniature
def bria(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": 4 * LATENTS, "joint_attention_dim": TEXT_DIM, "axes_dims_rope": (4, 2, 2)}
    return diffusers.BriaPipeline(
        **t5(),
        vae=picture_vae(shift_factor=0.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.BriaTransformer2DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 24}
NEEDS = ("BriaPipeline",)
CASES = (Case("bria", bria, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True, needs=NEEDS, slow=True),)
