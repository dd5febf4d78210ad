"""TaylorSeer of diffusers: at its own patterns, and on every attention and MLP named by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tocache.evaluation.contenders import Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import cached

# A full name must match, so the package's own patterns, which end in "attn", miss attn1, attn2 and the MLPs.
_LAYERS = [r".*blocks\.\d+\.(attn|attn1|attn2|ff|ff_context|mlp)"]
_DEFAULT = 5
_INTERVALS = (2, 3, 4, _DEFAULT, 6, 8, 10)


def _settings(curve: str, options: dict[str, Any], pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    import torch
    from diffusers.hooks import TaylorSeerCacheConfig

    def at(interval: int) -> Contender:
        more = options | {"taylor_factors_dtype": torch.float32}
        return cached(
            curve,
            f"interval {interval}, order 1",
            lambda pipe, clock: TaylorSeerCacheConfig(cache_interval=interval, max_order=1, **more),
            "apply_taylorseer_cache",
            always=interval == _DEFAULT,
        )

    return [at(interval) for interval in _INTERVALS if interval < steps]


TAYLORSEER = Peer(
    "diffusers-taylorseer",
    "diffusers, TaylorSeerCacheConfig, its own patterns",
    partial(_settings, "diffusers-taylorseer", {}),
    "0.42",
)
TAYLORSEER_LAYERS = Peer(
    "diffusers-taylorseer-layers",
    "diffusers, TaylorSeerCacheConfig on every attention and MLP, three full steps first, as in its documentation",
    partial(_settings, "diffusers-taylorseer-layers", {"cache_identifiers": _LAYERS, "disable_cache_before_step": 3}),
    "0.42",
)
