"""Published models of pictures by name: family, class and configuration of the transformer, where the weights are."""

from __future__ import annotations

from typing import Any

Known = tuple[str, str, str, dict[str, Any], str]


def _sd3() -> list[Known]:
    shared = {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 192}
    medium = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536}
    large = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"}
    dual = {"dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm", "pos_embed_max_size": 384}
    return [
        (name, "sd3", "SD3Transformer2DModel", shared | config, f"stabilityai/stable-diffusion-{hub}")
        for name, config, hub in (
            ("sd3-medium-1024", medium, "3-medium-diffusers"),
            ("sd3.5-medium-1024", medium | dual, "3.5-medium"),
            ("sd3.5-large-1024", large, "3.5-large"),
        )
    ]


# the classes' own defaults
_CHROMA: Known = ("chroma1-hd-1024", "chroma", "ChromaTransformer2DModel", {}, "lodestones/Chroma1-HD")
_QWEN: Known = ("qwen-image-1024", "qwen-image", "QwenImageTransformer2DModel", {}, "Qwen/Qwen-Image")

PICTURES: list[Known] = [*_sd3(), _CHROMA, _QWEN]
