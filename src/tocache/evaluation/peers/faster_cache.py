"""FasterCache of diffusers: attentions extrapolated, the unconditional half taken from the conditional one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tocache.evaluation.contenders import Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import cached

# (self-attention every, unconditional half every, reused below this time): 2, 5 and 681 are the defaults
_SETTINGS = ((2, 5, 681), (3, 5, 681), (5, 8, 681), (5, 8, 1000))


def _settings(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    from diffusers.hooks import FasterCacheConfig

    distilled = bool(getattr(pipe.transformer.config, "guidance_embeds", False))

    def at(spatial: int, unconditional: int, below: int) -> Contender:
        options = {
            "spatial_attention_block_skip_range": spatial,
            "spatial_attention_timestep_skip_range": (-1, below),
            "unconditional_batch_skip_range": unconditional,
            "unconditional_batch_timestep_skip_range": (-1, below),
            "attention_weight_callback": lambda module: 0.3,
            "tensor_format": "BCHW",
            "is_guidance_distilled": distilled,
        }
        return cached(
            "faster-cache",
            f"self {spatial}, unconditional {unconditional}, below {below}",
            lambda pipe, clock: FasterCacheConfig(current_timestep_callback=clock, **options),
            "apply_faster_cache",
            always=(spatial, unconditional, below) == _SETTINGS[0],
        )

    return [at(*setting) for setting in _SETTINGS]


FASTER_CACHE = Peer("faster-cache", "diffusers, FasterCacheConfig", _settings, "0.42")
