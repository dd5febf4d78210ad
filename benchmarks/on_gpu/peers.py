"""Other caches on the same models, in turns with the model without any: cache-dit, diffusers' own, and ours.

Weights are random, so what an adaptive cache decides here says nothing about pictures; what its steps take, for the
FLOPs that it computed, does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from on_gpu.jobs import Job, Options
from on_gpu.pipelines import Subject
from on_gpu.table import spread, spread_columns
from tocache.evaluation.clock import timed
from tocache.evaluation.contenders import Contender, contender_of
from tocache.evaluation.flops import counted
from tocache.evaluation.peers import BUILT_IN, parse_peers
from tocache.presets import preset

COLUMNS = (
    *("row", "model", "dtype", "contender", "setting", "source", "rounds"),
    *spread_columns("loop_uncached", "loop_cached"),
    *("flops_speedup", "realised_speedup", "realised_over_flops"),
)


def jobs(subject: Subject, options: Options) -> list[Job]:
    """One row for ours and for each peer's recommended setting; with `every`, for all of its settings."""
    target = subject.target
    labels = {"row": target.name, "model": target.architecture, "dtype": str(subject.dtype).removeprefix("torch.")}
    uncached: list[int] = []  # FLOPs of the uncached model, counted once
    ours = contender_of("tocache", preset(target.preset, target.family), None)
    found = [Job({**labels, "source": "tocache"}, partial(_measure, subject, options, uncached, ours))]
    for peer in parse_peers(options.peers):
        if peer in BUILT_IN:
            continue

        def settings(peer: Any = peer) -> Sequence[Contender]:
            peer.check()
            draw = partial(_draw, subject)
            every = list(peer.settings(subject.plain, subject.steps, draw))
            return every if options.every else [one for one in every if one.always][:1] or every[:1]

        named = {**labels, "contender": peer.name, "source": peer.source}
        found += _each(named, settings, partial(_measure, subject, options, uncached), options.every)
    return found


def _each(
    labels: dict[str, Any],
    settings: Callable[[], Sequence[Contender]],
    measure: Callable[[Contender], dict[str, Any]],
    every: bool,
) -> list[Job]:
    """Settings are found when the first of them is measured: a peer that cannot run has one row that says why."""
    if every:
        try:
            return [Job(labels, partial(measure, one)) for one in settings()]
        except Exception:  # the job below meets it again, and its row tells
            pass
    return [Job(labels, lambda: measure(settings()[0]))]


def _draw(subject: Subject) -> Any:
    return timed(subject.plain, subject.arguments())


def _measure(subject: Subject, options: Options, uncached: list[int], contender: Contender) -> dict[str, Any]:
    pipe = subject.plain
    if not uncached:
        with counted(pipe.transformer) as count:
            _draw(subject)
        uncached.append(count.flops)
    with contender.use(pipe), counted(pipe.transformer) as count:  # the first run also warms up
        _draw(subject)
    loops: dict[str, list[float]] = {"uncached": [], "cached": []}
    for _ in range(options.rounds):
        loops["uncached"].append(sum(_draw(subject)[1].steps))
        with contender.use(pipe):
            loops["cached"].append(sum(_draw(subject)[1].steps))
    saved = uncached[0] / max(1, count.flops)
    realised = float(np.median([a / b for a, b in zip(loops["uncached"], loops["cached"], strict=True)]))
    return {
        "contender": contender.curve,
        "setting": contender.setting,
        "rounds": options.rounds,
        **spread("loop_uncached", loops["uncached"]),
        **spread("loop_cached", loops["cached"]),
        "flops_speedup": round(saved, 4),
        "realised_speedup": round(realised, 4),
        "realised_over_flops": round(realised / saved, 4),
    }
