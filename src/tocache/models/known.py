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


def _flux2() -> list[Known]:
    # the class's own defaults are those of FLUX.2-dev; a Klein embeds no guidance
    klein = {"guidance_embeds": False}
    small = klein | {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
    large = klein | {"num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288}
    return [
        (name, "flux2", "Flux2Transformer2DModel", config, f"black-forest-labs/FLUX.2-{hub}")
        for name, config, hub in (
            ("flux2-dev-1024", {}, "dev"),
            ("flux2-klein-4b-1024", small, "klein-4B"),
            ("flux2-klein-9b-1024", large, "klein-9B"),
        )
    ]


_HUNYUAN_DIT: dict[str, Any] = {
    "num_layers": 40,
    "hidden_size": 1408,
    "mlp_ratio": 4.3637,
    "in_channels": 4,
    "patch_size": 2,
    "sample_size": 128,
    "use_style_cond_and_image_meta_size": False,
}
_COGVIEW4 = {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128}

# the classes' own defaults
_CHROMA: Known = ("chroma1-hd-1024", "chroma", "ChromaTransformer2DModel", {}, "lodestones/Chroma1-HD")
_QWEN: Known = ("qwen-image-1024", "qwen-image", "QwenImageTransformer2DModel", {}, "Qwen/Qwen-Image")

_Z_IMAGE: Known = ("z-image-1024", "z-image", "ZImageTransformer2DModel", {}, "Tongyi-MAI/Z-Image")
_COGVIEW3: Known = ("cogview3-plus-1024", "cogview3", "CogView3PlusTransformer2DModel", {}, "THUDM/CogView3-Plus-3B")
_SANA: Known = (
    "sana-1.6b-1024",
    "sana",
    "SanaTransformer2DModel",
    {},
    "Efficient-Large-Model/Sana_1600M_1024px_diffusers",
)

_HIDREAM: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "caption_channels": [4096, 4096],
    "axes_dims_rope": (64, 32, 32),
    "llama_layers": list(range(48)),
}
# the factors change no size
_OMNIGEN = {"rope_scaling": {"short_factor": [1.0] * 48, "long_factor": [1.0] * 48}}
_FIBO = {"num_layers": 8, "num_single_layers": 38, "in_channels": 48}

PICTURES: list[Known] = [
    *_sd3(),
    _CHROMA,
    _QWEN,
    *_flux2(),
    _Z_IMAGE,
    (
        "lumina2-1024",
        "lumina2",
        "Lumina2Transformer2DModel",
        {"cap_feat_dim": 2304},
        "Alpha-VLLM/Lumina-Image-2.0",
    ),
    (
        "hunyuan-dit-1.2-1024",
        "hunyuan-dit",
        "HunyuanDiT2DModel",
        _HUNYUAN_DIT,
        "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
    ),
    _COGVIEW3,
    ("cogview4-1024", "cogview4", "CogView4Transformer2DModel", _COGVIEW4, "THUDM/CogView4-6B"),
    _SANA,
    (
        "hunyuan-image-2.1-2048",
        "hunyuan-image",
        "HunyuanImageTransformer2DModel",
        {"text_embed_2_dim": 1472},
        "hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
    ),
    ("hidream-i1-1024", "hidream", "HiDreamImageTransformer2DModel", _HIDREAM, "HiDream-ai/HiDream-I1-Full"),
    ("omnigen-1-1024", "omnigen", "OmniGenTransformer2DModel", _OMNIGEN, "Shitao/OmniGen-v1-diffusers"),
    ("bria-fibo-1024", "bria-fibo", "BriaFiboTransformer2DModel", _FIBO, "briaai/FIBO"),
]
