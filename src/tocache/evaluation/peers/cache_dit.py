"""cache-dit: DBCache at its defaults and swept, with its TaylorSeer calibrator, and with its masks of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tocache.evaluation.contenders import PEER, Contender
from tocache.evaluation.peers.base import Draw, Peer
from tocache.evaluation.peers.hooks import restored

_THRESHOLDS = (0.08, 0.12, 0.2, 0.35, 0.6, 1.0, 2.0)
_MASKS = ("slow", "medium", "fast", "ultra")


def _swept(curve: str, order: int | None, pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    """Its default setting, then one block computed and short warm-ups, with rising thresholds.

    TaylorSeer extrapolates after four full steps, not before: its warm-up is that long, until only less can save more.
    """
    short = max(2, min(4, steps // 6))
    ladder = [(short if order is None else 4, threshold) for threshold in _THRESHOLDS]
    if order is not None:
        ladder += [(short, threshold) for threshold in _THRESHOLDS[-3:]]
    swept = [_at(curve, "defaults", {}, order)]
    for warm, threshold in ladder:
        options = {"Fn_compute_blocks": 1, "max_warmup_steps": warm, "residual_diff_threshold": threshold}
        swept.append(_at(curve, f"F1B0, warm-up {warm}, threshold {threshold:g}", options, order))
    return swept


def _masked(pipe: Any, steps: int, draw: Draw) -> Sequence[Contender]:
    """Its four published masks of steps, stretched by the package, with TaylorSeer for the steps between."""
    import cache_dit

    def at(policy: str) -> Contender:
        mask = cache_dit.steps_mask(total_steps=steps, mask_policy=policy)
        options = {"steps_computation_mask": mask, "steps_computation_policy": "static", "Fn_compute_blocks": 1}
        return _at("cache-dit-mask", f"mask {policy}, TaylorSeer order 1", options, 1, adaptive=False)

    return [at(policy) for policy in _MASKS]


def _at(curve: str, setting: str, options: Mapping[str, Any], order: int | None, adaptive: bool = True) -> Contender:
    always = not options  # its defaults
    return Contender(curve, setting, PEER, partial(_enabled, options, order), adaptive=adaptive, always=always)


@contextmanager
def _enabled(options: Mapping[str, Any], order: int | None, pipe: Any) -> Iterator[None]:
    import cache_dit

    calibrator = None if order is None else cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=order)
    with restored(pipe.transformer):
        cache_dit.enable_cache(pipe, cache_config=cache_dit.DBCacheConfig(**options), calibrator_config=calibrator)
        try:
            yield
        finally:
            cache_dit.disable_cache(pipe)


DBCACHE = Peer("cache-dit", "cache-dit, DBCache", partial(_swept, "cache-dit", None))
DBCACHE_TAYLOR = Peer("cache-dit-taylor", "cache-dit, DBCache with TaylorSeer", partial(_swept, "cache-dit-taylor", 1))
MASKED = Peer("cache-dit-mask", "cache-dit, static masks of steps with TaylorSeer", _masked)
