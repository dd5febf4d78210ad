"""Stable Diffusion 3, and 3.5 medium with its second attention in the first blocks."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import CLIPTextModelWithProjection

from tocache.demo.random_text import (
    TEXT_DIM,
    tiny_clip_encoder,
    tiny_clip_tokenizer,
    tiny_t5_encoder,
    tiny_t5_tokenizer,
)

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS, picture_vae


def _transformer(**config: Any) -> Any:
    sizes = {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 16}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "pos_embed_max_size": 32}
    text = {"joint_attention_dim": TEXT_DIM, "caption_projection_dim": 16, "pooled_projection_dim": 2 * TEXT_DIM}
    return diffusers.SD3Transformer2DModel(**sizes | text | config)


def _clip(number: str) -> dict[str, Any]:
    tokenizer = tiny_clip_tokenizer()
    encoder = CLIPTextModelWithProjection(tiny_clip_encoder(tokenizer).config).eval()
    return {f"tokenizer{number}": tokenizer, f"text_encoder{number}": encoder}


@miniature
def sd3(**config: Any) -> Any:
    t5 = tiny_t5_tokenizer()
    return diffusers.StableDiffusion3Pipeline(
        **_clip(""),
        **_clip("_2"),
        tokenizer_3=t5,
        text_encoder_3=tiny_t5_encoder(t5),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=_transformer(**config),
    )


CALL = {"output_type": "latent", "max_sequence_length": 16}
CASES = (
    Case("sd3", sd3, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True),
    Case(
        "sd3.5",
        sd3,
        TEXTS,
        {"guidance_scale": 1.0},
        {"dual_attention_layers": (0, 2), "qk_norm": "rms_norm"},
        CALL,
        flow=True,
    ),
)
