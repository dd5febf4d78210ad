"""FirstBlockCache of diffusers: the first block's residual decides whether the others run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tocache.evaluation.contenders import Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import cached

_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 2.0)  # the default first
_SHOWN = 0.2  # in the documentation's example


def _settings(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    from diffusers.hooks import FirstBlockCacheConfig

    def at(threshold: float) -> Contender:
        return cached(
            "first-block",
            f"threshold {threshold:g}",
            lambda pipe, clock: FirstBlockCacheConfig(threshold=threshold),
            "apply_first_block_cache",
            adaptive=True,
            always=threshold == _SHOWN,
        )

    return [at(threshold) for threshold in _THRESHOLDS]


FIRST_BLOCK = Peer("first-block", "diffusers, FirstBlockCacheConfig", _settings, "0.42")
