"""HiDream-I1, with experts and guidance."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import CLIPTextModelWithProjection, LlamaConfig, LlamaForCausalLM

from tocache.demo.random_text import TEXT_DIM, tiny_clip_encoder, tiny_clip_tokenizer, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature, t5
from .pictures import LATENTS, picture_vae

LLAMA = 16


def _llama(vocabulary: int) -> Any:
    sizes = {"hidden_size": LLAMA, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    # the pipeline asks for the attention maps as well
    config = LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, attn_implementation="eager", **sizes)
    return LlamaForCausalLM(config).eval()


@miniature
def hidream(**config: Any) -> Any:
    # the pipeline makes every picture as large as 128 × 128 latents: large patches make few tokens of them
    sizes: dict[str, Any] = {"patch_size": 16, "in_channels": LATENTS, "out_channels": LATENTS}
    sizes |= {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"caption_channels": [TEXT_DIM, LLAMA], "text_emb_dim": 2 * TEXT_DIM, "llama_layers": [0, 0, 1, 1]}
    sizes |= {"axes_dims_rope": (4, 2, 2)}
    clip = tiny_clip_tokenizer()
    encoders = [CLIPTextModelWithProjection(tiny_clip_encoder(clip).config).eval() for _ in range(2)]
    llama = tiny_t5_tokenizer()
    return diffusers.HiDreamImagePipeline(
        tokenizer=clip,
        text_encoder=encoders[0],
        tokenizer_2=clip,
        text_encoder_2=encoders[1],
        **{f"{name}_3": part for name, part in t5().items()},
        tokenizer_4=llama,
        text_encoder_4=_llama(len(llama)),
        vae=picture_vae(levels=1),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.HiDreamImageTransformer2DModel(**sizes | config),
    )


CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 16}
# made 112 × 144, which is one patch less than there may be, so that one token is padding
SPECIAL: dict[str, Any] = {"resized": {"height": 1130, "width": 1450}, "flow": True, "needs": ("HiDreamImagePipeline",)}
CASES = (Case("hidream", hidream, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
