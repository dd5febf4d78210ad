"""HunyuanVideo 1.5, with letters to be drawn in one of the texts, and a guider that makes two passes."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import ByT5Tokenizer

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder

from ...conftest import Case
from .hunyuan_image import TEXTS, guider
from .parts import miniature
from .pictures import LATENTS
from .qwen_text import tiny_qwen_encoder, tiny_qwen_tokenizer

# the instruction before every prompt, with the spaces that it has; the pipeline cuts it off again as 108 tokens, here
# 107 characters and all the rest, as words that occur twice would not be told apart
FRAME = (
    "> You are a helpful assistant. Describe the video by detailing the following aspects:         "
    "1. The main content and theme of the video.         "
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects.         "
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects.         "
    "4. background environment, light, style and atmosphere.         "
    "5. camera angles, movements, and transitions used in the video."
)


def _vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=LATENTS,
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=8,
    ).eval()


@miniature
def hunyuan_video15(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2, "attention_head_dim": 12}
    sizes |= {"rope_axes_dim": (4, 4, 4), "in_channels": 2 * LATENTS + 1, "out_channels": LATENTS}
    sizes |= {"text_embed_dim": TEXT_DIM, "text_embed_2_dim": TEXT_DIM, "image_embed_dim": 8}
    tokenizer, tokenizer_2 = tiny_qwen_tokenizer(FRAME[107:], 1), ByT5Tokenizer()
    pipe = diffusers.HunyuanVideo15Pipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_qwen_encoder(tokenizer).model.language_model,
        tokenizer_2=tokenizer_2,
        text_encoder_2=tiny_t5_encoder(tokenizer_2),
        vae=_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=diffusers.HunyuanVideo15Transformer3DModel(**sizes | config),
        guider=guider(),
    )
    # 1000, 256 and 729, nearly all of it padding
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length, pipe.vision_num_semantic_tokens = 48, 16, 4
    return pipe


CALL = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9}
SPECIAL: dict[str, Any] = {"resized": {"height": 96, "width": 64}, "output": "frames", "flow": True, "slow": True}
CASES = (Case("hunyuan-video-1.5", hunyuan_video15, TEXTS, {}, {}, CALL, needs=("HunyuanVideo15Pipeline",), **SPECIAL),)
