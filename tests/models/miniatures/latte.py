"""Latte."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae

FRAMES = 3


@miniature
def latte(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
    sizes |= {"in_channels": LATENTS, "out_channels": 2 * LATENTS, "sample_size": 8, "patch_size": 2}
    sizes |= {"caption_channels": TEXT_DIM, "video_length": FRAMES, "num_embeds_ada_norm": 1000}
    kinds = {"norm_type": "ada_norm_single", "norm_elementwise_affine": False, "attention_bias": True}
    return diffusers.LattePipeline(
        **t5(),
        vae=picture_vae(),
        scheduler=diffusers.DDIMScheduler(beta_schedule="linear", prediction_type="v_prediction"),
        transformer=diffusers.LatteTransformer3DModel(**sizes | kinds | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "video_length": FRAMES}
CALL |= {"clean_caption": False, "mask_feature": False}
SPECIAL: dict[str, Any] = {"resized": {"height": 96}, "output": "frames", "rows": FRAMES}
CASES = (Case("latte", latte, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
