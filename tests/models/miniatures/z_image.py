"""Z-Image, with guidance; the texts fill one and two multiples of 32 tokens."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import miniature
from .pictures import LATENTS, picture_vae
from .qwen_text import tiny_byte_tokenizer, tiny_qwen3_encoder


@miniature
def z_image(**config: Any) -> Any:
    sizes = {"dim": 16, "n_layers": 2, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2, "axes_dims": (4, 2, 2)}
    sizes |= {"in_channels": LATENTS, "cap_feat_dim": TEXT_DIM, "axes_lens": (256, 32, 32)}
    tokenizer = tiny_byte_tokenizer()
    return diffusers.ZImagePipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen3_encoder(tokenizer),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.ZImageTransformer2DModel(**sizes | config),
    )


TEXTS = ("a red circle", "a blue square above a circle, and a green lake", "sea")
CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 64}
NEEDS = ("ZImagePipeline",)
CASES = (Case("z-image", z_image, TEXTS, {"guidance_scale": 0.0}, {}, CALL, flow=True, needs=NEEDS),)
