"""CogView4, with guidance in two passes."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import GlmConfig, GlmModel

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import miniature
from .pictures import LATENTS, picture_vae
from .qwen_text import tiny_byte_tokenizer


def _glm(vocabulary: int) -> Any:
    sizes = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "eos_token_id": 0}
    return GlmModel(GlmConfig(vocab_size=vocabulary, **sizes)).eval()


@miniature
def cogview4(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 16, "patch_size": 2}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "text_embed_dim": TEXT_DIM, "time_embed_dim": 8}
    tokenizer = tiny_byte_tokenizer()
    return diffusers.CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=_glm(len(tokenizer)),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        transformer=diffusers.CogView4Transformer2DModel(**sizes | {"condition_dim": 2} | config),
    )


# of one length: the pipeline pads shorter texts and masks nothing, so that a picture depends on its neighbours
PROMPTS = ("a red circle, and a cube", "a blue lake, and a cloud", "a grey wall, and a tree!")
CALL: dict[str, Any] = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 32}
CALL["negative_prompt"] = "blurred"
CASES = (
    Case("cogview4", cogview4, PROMPTS, {"guidance_scale": 1.0}, {}, CALL, flow=True, needs=("CogView4Pipeline",)),
)
