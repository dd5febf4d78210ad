"""EasyAnimate, with one block of each kind and guidance."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS
from .qwen_text import tiny_byte_tokenizer


def _qwen2(tokenizer: Any) -> Any:
    text = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "tie_word_embeddings": True}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": TEXT_DIM, "num_heads": 2, "mlp_ratio": 1}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).eval()


def _vae() -> Any:
    return diffusers.AutoencoderKLMagvit(
        latent_channels=LATENTS, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


@miniature
def easyanimate(**config: Any) -> Any:
    sizes = {"num_layers": 2, "mmdit_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16, "patch_size": 2}
    sizes |= {"in_channels": LATENTS, "out_channels": LATENTS, "time_embed_dim": 16, "text_embed_dim": TEXT_DIM}
    tokenizer = tiny_byte_tokenizer()
    return diffusers.EasyAnimatePipeline(
        tokenizer=tokenizer,
        text_encoder=_qwen2(tokenizer),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=diffusers.EasyAnimateTransformer3DModel(**sizes | config),
    )


CALL = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 5}
SPECIAL: dict[str, Any] = {"each": {"negative_prompt": "blurred"}, "output": "frames", "flow": True, "slow": True}
SPECIAL |= {"resized": {"height": 96}, "needs": ("EasyAnimatePipeline",)}
CASES = (Case("easyanimate", easyanimate, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
