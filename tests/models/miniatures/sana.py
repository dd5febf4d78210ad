"""Sana."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM, tiny_t5_tokenizer

from ...conftest import Case
from .lumina2 import tiny_gemma
from .parts import TEXTS, miniature


def _vae() -> Any:
    kinds = {"encoder_block_types": ("ResBlock",) * 3, "decoder_block_types": ("ResBlock",) * 3}
    sizes = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8), "latent_channels": 4}
    layers = {"encoder_layers_per_block": (1, 1, 1), "decoder_layers_per_block": (1, 1, 1)}
    return diffusers.AutoencoderDC(
        **kinds,
        **sizes,
        **layers,
        encoder_qkv_multiscales=((), (), ()),
        **{
            "decoder_qkv_multiscales": ((), (), ()),
            "upsample_block_type": "interpolate",
            "downsample_block_type": "conv",
        },
    ).eval()


@miniature
def sana(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "num_cross_attention_heads": 2}
    sizes |= {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": TEXT_DIM}
    sizes |= {"in_channels": 4, "out_channels": 4, "sample_size": 8, "patch_size": 1}
    tokenizer = tiny_t5_tokenizer()
    return diffusers.SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_gemma(len(tokenizer)),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.SanaTransformer2DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 32, "width": 32, "max_sequence_length": 24}
CALL |= {"use_resolution_binning": False, "clean_caption": False, "complex_human_instruction": None}
SPECIAL: dict[str, Any] = {"resized": {"height": 64}, "flow": True, "scores": {"norm": 1.0}}
CASES = (Case("sana", sana, TEXTS, {"guidance_scale": 1.0}, {}, CALL, **SPECIAL),)
