"""HunyuanVideo."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import LlamaConfig, LlamaModel

from tocache.demo.random_text import TEXT_DIM, tiny_clip_encoder, tiny_clip_tokenizer, tiny_t5_tokenizer

from ...conftest import Case
from .parts import TEXTS, miniature


def tiny_video_vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def tiny_llama(vocabulary: int) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaModel(LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, **sizes)).eval()


@miniature
def hunyuan_video(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2}
    sizes |= {"attention_head_dim": 12, "rope_axes_dim": (4, 4, 4), "in_channels": 4, "out_channels": 4}
    sizes |= {"text_embed_dim": 16, "pooled_projection_dim": TEXT_DIM}
    tokenizer, tokenizer_2 = tiny_t5_tokenizer(), tiny_clip_tokenizer()
    return diffusers.HunyuanVideoPipeline(
        text_encoder=tiny_llama(len(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=tiny_clip_encoder(tokenizer_2),
        tokenizer_2=tokenizer_2,
        vae=tiny_video_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=diffusers.HunyuanVideoTransformer3DModel(**sizes | config),
    )


CALL: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 16}
CALL["prompt_template"] = {"template": "{}", "crop_start": 0}
HUNYUAN_VIDEO = Case("hunyuan-video", hunyuan_video, TEXTS, {}, {}, CALL, {"height": 96}, output="frames", flow=True)
CASES = (HUNYUAN_VIDEO,)
