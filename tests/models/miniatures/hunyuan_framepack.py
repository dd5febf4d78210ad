"""HunyuanVideo FramePack, one section of a video after a picture."""

from __future__ import annotations

from typing import Any

import diffusers
from PIL import Image
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from tocache.demo.random_text import TEXT_DIM, tiny_clip_encoder, tiny_clip_tokenizer, tiny_t5_tokenizer

from ...conftest import Case
from .hunyuan_video import CALL as VIDEO_CALL
from .hunyuan_video import tiny_llama, tiny_video_vae
from .parts import TEXTS, miniature

SIGHT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@miniature
def hunyuan_framepack(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2}
    sizes |= {"attention_head_dim": 12, "rope_axes_dim": (4, 4, 4), "in_channels": 4, "out_channels": 4}
    sizes |= {"text_embed_dim": 16, "pooled_projection_dim": TEXT_DIM, "image_proj_dim": 8}
    tokenizer, tokenizer_2 = tiny_t5_tokenizer(), tiny_clip_tokenizer()
    return diffusers.HunyuanVideoFramepackPipeline(
        text_encoder=tiny_llama(len(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=tiny_clip_encoder(tokenizer_2),
        tokenizer_2=tokenizer_2,
        image_encoder=SiglipVisionModel(SiglipVisionConfig(image_size=16, patch_size=8, **SIGHT)).eval(),
        feature_extractor=SiglipImageProcessor(size={"height": 16, "width": 16}),
        vae=tiny_video_vae(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
        transformer=diffusers.HunyuanVideoFramepackTransformer3DModel(
            has_image_proj=True, has_clean_x_embedder=True, **sizes | config
        ),
    )


CALL = VIDEO_CALL | {"latent_window_size": 3}
RESIZED = {"height": 96, "num_frames": 18}  # in two sections
SPECIAL: dict[str, Any] = {"each": {"image": Image.new("RGB", (64, 64), "orange")}, "output": "frames"}
# its latents are float32 whatever the model is
SPECIAL |= {"flow": True, "slow": True, "close": 1e-5, "asked": "prompt", "needs": ("HunyuanVideoFramepackPipeline",)}
CASES = (Case("hunyuan-framepack", hunyuan_framepack, TEXTS, {}, {}, CALL, RESIZED, **SPECIAL),)
