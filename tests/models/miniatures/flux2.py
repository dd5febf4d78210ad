"""FLUX.2 Klein that is not distilled: guidance in two passes."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from ...conftest import Case
from .parts import TEXTS, miniature
from .pictures import LATENTS
from .qwen_text import tiny_byte_tokenizer, tiny_qwen3_encoder


def _vae() -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": LATENTS}
    return diffusers.AutoencoderKLFlux2(**blocks, **sizes, sample_size=128).eval()


@miniature
def flux2(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes |= {"in_channels": 4 * LATENTS, "joint_attention_dim": 2 * TEXT_DIM, "axes_dims_rope": (2, 2, 2, 2)}
    tokenizer = tiny_byte_tokenizer()
    return diffusers.Flux2KleinPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen3_encoder(tokenizer),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=diffusers.Flux2Transformer2DModel(**sizes | {"guidance_embeds": False} | config),
    )


CALL = {"output_type": "latent", "height": 128, "width": 128, "max_sequence_length": 16}
CALL["text_encoder_out_layers"] = (1, 2)
NEEDS = ("Flux2KleinPipeline",)
FLUX2 = Case("flux2", flux2, TEXTS, {"guidance_scale": 1.0}, {}, CALL, flow=True, needs=NEEDS, asked="prompt")
CASES = (FLUX2,)
