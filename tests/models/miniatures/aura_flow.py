"""AuraFlow."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import UMT5Config, UMT5EncoderModel

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS, picture_vae


@miniature
def aura_flow(**config: Any) -> Any:
    sizes = {"num_mmdit_layers": 2, "num_single_dit_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "sample_size": 16, "pos_embed_max_size": 256}
    sizes |= {"joint_attention_dim": TEXT_DIM, "caption_projection_dim": 16}
    tokenizer = tiny_t5_tokenizer()
    text = UMT5Config(**tiny_t5_encoder(tokenizer).config.to_dict() | {"model_type": "umt5"})
    return diffusers.AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=picture_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
        transformer=diffusers.AuraFlowTransformer2DModel(**sizes | config),
    )


CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 24}
CASES = (Case("aura-flow", aura_flow, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True),)
