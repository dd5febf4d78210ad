"""Lumina-Image 2.0, with guidance in two passes."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import Gemma2Config, Gemma2Model

from tocache.demo.random_text import TEXT_DIM, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS, picture_vae


def tiny_gemma(vocabulary: int) -> Any:
    sizes = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Gemma2Model(Gemma2Config(vocab_size=vocabulary, num_key_value_heads=1, head_dim=8, **sizes)).eval()


@miniature
def lumina2(**config: Any) -> Any:
    sizes = {"hidden_size": 24, "num_layers": 2, "num_refiner_layers": 2, "num_attention_heads": 2, "num_kv_heads": 1}
    sizes |= {"multiple_of": 8, "axes_dim_rope": (4, 4, 4), "axes_lens": (64, 32, 32), "cap_feat_dim": TEXT_DIM}
    tokenizer = tiny_t5_tokenizer()
    return diffusers.Lumina2Pipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_gemma(len(tokenizer)),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.Lumina2Transformer2DModel(**sizes | {"in_channels": LATENTS, "sample_size": 16} | config),
    )


CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 48, "system_prompt": "draw"}
NEEDS = ("Lumina2Pipeline",)
CASES = (Case("lumina2", lumina2, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True, needs=NEEDS, slow=True),)
