"""Pyramid Attention Broadcast of diffusers: attentions are reused, each kind for a time of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tocache.evaluation.contenders import Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import cached

# (self-attention every, cross-attention every, reused between these times): 2 and (100, 800) are the documentation's
_SETTINGS = ((2, 4, (100, 800)), (3, 6, (100, 800)), (5, 9, (100, 800)), (5, 9, (0, 1000)), (20, 20, (0, 1000)))


def _settings(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    from diffusers.hooks import PyramidAttentionBroadcastConfig

    def at(spatial: int, cross: int, times: tuple[int, int]) -> Contender:
        options = {
            "spatial_attention_block_skip_range": spatial,
            "temporal_attention_block_skip_range": spatial,
            "cross_attention_block_skip_range": cross,
            "spatial_attention_timestep_skip_range": times,
            "temporal_attention_timestep_skip_range": times,
            "cross_attention_timestep_skip_range": times,
        }
        return cached(
            "diffusers-pab",
            f"self {spatial}, cross {cross}, times {times[0]}–{times[1]}",
            lambda pipe, clock: PyramidAttentionBroadcastConfig(current_timestep_callback=clock, **options),
            "apply_pyramid_attention_broadcast",
            always=(spatial, cross, times) == _SETTINGS[0],
        )

    return [at(*setting) for setting in _SETTINGS]


PAB = Peer("diffusers-pab", "diffusers, PyramidAttentionBroadcastConfig", _settings, "0.42")
