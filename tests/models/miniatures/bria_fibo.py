"""Bria Fibo, with guidance and texts of several lengths."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import SmolLM3Config, SmolLM3ForCausalLM

from tocache.demo.random_text import tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS
from .wan import wan_vae

TEXT = 16


def _smol(vocabulary: int) -> Any:
    sizes = {"hidden_size": TEXT, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    return SmolLM3ForCausalLM(SmolLM3Config(vocab_size=vocabulary, num_key_value_heads=1, **special, **sizes)).eval()


@miniature
def bria_fibo(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": LATENTS, "joint_attention_dim": 2 * TEXT, "text_encoder_dim": TEXT}
    tokenizer = tiny_t5_tokenizer()
    return diffusers.BriaFiboPipeline(
        tokenizer=tokenizer,
        text_encoder=_smol(len(tokenizer)),
        vae=wan_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        transformer=diffusers.BriaFiboTransformer2DModel(**sizes | {"axes_dims_rope": (4, 2, 2)} | config),
    )


# an empty text would be the token 128000
CALL = {"output_type": "latent", "height": 128, "width": 128, "negative_prompt": "blurred"}
SPECIAL: dict[str, Any] = {"flow": True, "slow": True, "needs": ("BriaFiboPipeline",)}
CASES = (Case("bria-fibo", bria_fibo, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
