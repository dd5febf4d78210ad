"""SkyReels-V2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers

from tocache.demo.random_text import TEXT_DIM

from .parts import miniature, t5
from .wan import WAN, wan_vae


@miniature
def skyreels_v2(**config: Any) -> Any:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "text_dim": TEXT_DIM}
    sizes |= {"in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32}
    return diffusers.SkyReelsV2Pipeline(
        **t5(),
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=diffusers.SkyReelsV2Transformer3DModel(**sizes | config),
    )


CASES = (replace(WAN, name="skyreels-v2", build=skyreels_v2, needs=("SkyReelsV2Pipeline",), slow=True),)
