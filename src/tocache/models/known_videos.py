"""Published models of videos by name; see `known`."""

from __future__ import annotations

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
]
