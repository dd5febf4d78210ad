"""HunyuanImage 2.1, with letters to be drawn in one of the texts, and a guider that makes two passes."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import ByT5Tokenizer

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder

from ...conftest import Case
from .parts import miniature
from .pictures import LATENTS
from .qwen_text import tiny_qwen_encoder, tiny_qwen_tokenizer

# the instruction before every prompt, which the pipeline cuts off again
FRAME = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)


def _vae() -> Any:
    return diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENTS,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        spatial_compression_ratio=8,
        sample_size=64,
        scaling_factor=1.0,
    ).eval()


def guider() -> Any:
    return diffusers.ClassifierFreeGuidance(guidance_scale=3.0)


@miniature
def hunyuan_image(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2}
    sizes |= {"attention_head_dim": 8, "rope_axes_dim": (4, 4), "in_channels": LATENTS, "out_channels": LATENTS}
    sizes |= {"text_embed_dim": TEXT_DIM, "text_embed_2_dim": TEXT_DIM}
    tokenizer, tokenizer_2 = tiny_qwen_tokenizer(FRAME, 34), ByT5Tokenizer()
    pipe = diffusers.HunyuanImagePipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen_encoder(tokenizer),
        tokenizer_2=tokenizer_2,
        text_encoder_2=tiny_t5_encoder(tokenizer_2),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=diffusers.HunyuanImageTransformer2DModel(**sizes | config),
        guider=guider(),
    )
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 48, 16  # 1000 and 128, most of it padding
    return pipe


TEXTS = ("a red circle", 'the word "sea" above a circle', "sea")
CALL = {"output_type": "latent", "height": 64, "width": 64}
SPECIAL: dict[str, Any] = {"resized": {"height": 96}, "flow": True, "needs": ("HunyuanImagePipeline",)}
CASES = (Case("hunyuan-image", hunyuan_image, TEXTS, {}, {}, CALL, **SPECIAL),)
