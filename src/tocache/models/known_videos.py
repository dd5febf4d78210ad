"""Published models of videos, and of sounds, by name; see `known`."""

from __future__ import annotations

from typing import Any

from tocache.models.known import Known


def _wan() -> list[Known]:
    # the class's own defaults are those of 14 billion parameters
    small = {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    channels = {"in_channels": 48, "out_channels": 48}
    between = {"num_layers": 30, "num_attention_heads": 24, "ffn_dim": 14336, **channels}
    return [
        (name, "wan", "WanTransformer3DModel", config, f"Wan-AI/{hub}-Diffusers")
        for name, config, hub in (
            ("wan-2.1-1.3b-480p", small, "Wan2.1-T2V-1.3B"),
            ("wan-2.1-14b-480p", {}, "Wan2.1-T2V-14B"),
            ("wan-2.2-a14b-480p", {}, "Wan2.2-T2V-A14B"),
            ("wan-2.2-5b-720p", between, "Wan2.2-TI2V-5B"),
        )
    ]


_COGVIDEOX_5B = {"num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True}

_LATTE: dict[str, Any] = {
    "num_layers": 28,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "patch_size": 2,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "num_embeds_ada_norm": 1000,
}
_KANDINSKY5_LITE = {"model_dim": 1792, "ff_dim": 7168, "in_visual_dim": 16, "out_visual_dim": 16, "visual_cond": True}

_FRAMEPACK = {"has_image_proj": True, "has_clean_x_embedder": True}
_EASYANIMATE = {"in_channels": 16, "out_channels": 16, "patch_size": 2}

VIDEOS: list[Known] = [
    *_wan(),
    ("ltx-video-2b-512p", "ltx", "LTXVideoTransformer3DModel", {}, "Lightricks/LTX-Video"),
    ("allegro-720p", "allegro", "AllegroTransformer3DModel", {}, "rhymes-ai/Allegro"),
    ("cogvideox-2b-480p", "cogvideox", "CogVideoXTransformer3DModel", {}, "THUDM/CogVideoX-2b"),
    ("cogvideox-5b-480p", "cogvideox", "CogVideoXTransformer3DModel", _COGVIDEOX_5B, "THUDM/CogVideoX-5b"),
    (
        "hunyuan-video-720p",
        "hunyuan-video",
        "HunyuanVideoTransformer3DModel",
        {},
        "hunyuanvideo-community/HunyuanVideo",
    ),
    ("mochi-1-480p", "mochi", "MochiTransformer3DModel", {}, "genmo/mochi-1-preview"),
    ("latte-1-512p", "latte", "LatteTransformer3DModel", _LATTE, "maxin-cn/Latte-1"),
    (
        "kandinsky5-lite-512p",
        "kandinsky5",
        "Kandinsky5Transformer3DModel",
        _KANDINSKY5_LITE,
        "kandinskylab/Kandinsky-5.0-T2V-Lite-sft-5s-Diffusers",
    ),
    (
        "hunyuan-video-1.5-480p",
        "hunyuan-video-1.5",
        "HunyuanVideo15Transformer3DModel",
        {},
        "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v",
    ),
    (
        "hunyuan-framepack-720p",
        "hunyuan-framepack",
        "HunyuanVideoFramepackTransformer3DModel",
        _FRAMEPACK,
        "lllyasviel/FramePackI2V_HY",
    ),
    ("ltx-2-19b-512p", "ltx-2", "LTX2VideoTransformer3DModel", {}, "Lightricks/LTX-2"),
    (
        "easyanimate-5.1-12b-512p",
        "easyanimate",
        "EasyAnimateTransformer3DModel",
        _EASYANIMATE,
        "alibaba-pai/EasyAnimateV5.1-12b-zh",
    ),
    ("cosmos-1-7b-704p", "cosmos", "CosmosTransformer3DModel", {}, "nvidia/Cosmos-1.0-Diffusion-7B-Text2World"),
    ("stable-audio-open-1.0", "stable-audio", "StableAudioDiTModel", {}, "stabilityai/stable-audio-open-1.0"),
]
