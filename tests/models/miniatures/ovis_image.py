"""Ovis-Image, which no family lists."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import RECOGNISED, miniature
from .pictures import LATENTS, picture_vae
from .qwen_text import tiny_qwen3_encoder, tiny_qwen_tokenizer

# the first line of every prompt, which the pipeline cuts off again
FRAME = (
    "> Describe the image by detailing the color, quantity, text, shape, size, texture, spatial relationships of the "
    "objects and background: "
)


@miniature
def ovis_image(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": 4 * LATENTS, "out_channels": 4 * LATENTS, "joint_attention_dim": TEXT_DIM}
    sizes |= {"axes_dims_rope": (4, 2, 2)}
    tokenizer = tiny_qwen_tokenizer(FRAME, 28)
    return diffusers.OvisImagePipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen3_encoder(tokenizer),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.OvisImageTransformer2DModel(**sizes | config),
    )


PROMPTS = ("a red circle", "a blue cloud", "a green lake")
CALL: dict[str, Any] = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 24}
SPECIAL: dict[str, Any] = {"flow": True, "scores": RECOGNISED, "needs": ("OvisImagePipeline",)}
CASES = (Case("ovis-image", ovis_image, PROMPTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
