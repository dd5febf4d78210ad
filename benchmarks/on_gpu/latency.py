"""Seconds of the denoising loop with and without the cache, eager against eager and compiled against compiled."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

import tocache
from on_gpu.jobs import Job, Options
from on_gpu.pipelines import Subject
from on_gpu.table import spread, spread_columns
from tocache.evaluation.clock import timed
from tocache.plan import flops_planned, flops_scores, flops_uncached

WAYS = ("eager", "compiled", "graphs")
"""As modules are; by torch.compile; by torch.compile with CUDA graphs."""

_MOST = 64  # kinds of steps: ToCa's amounts differ from step to step

COLUMNS = (
    *("row", "model", "method", "rows", "dtype", "way", "multiple", "ahead", "graphs", "compile_seconds"),
    *("full_steps", "partial_steps", "reuse_steps", "rounds"),
    *spread_columns("ms_uncached", "ms_full", "ms_partial", "ms_reuse", "loop_uncached", "loop_cached"),
    *("flops_speedup", "scores_share", "realised_speedup", "realised_over_flops", "target", "full_step_overhead"),
)


def jobs(subject: Subject, options: Options) -> list[Job]:
    """One row for each way."""
    target = subject.target
    labels = {
        "row": target.name,
        "model": target.architecture,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "target": target.least,
        "ahead": options.ahead,
    }
    return [Job({**labels, "way": way}, partial(_measure, subject, options, way)) for way in options.ways]


def _measure(subject: Subject, options: Options, way: str) -> dict[str, Any]:
    multiple = 1 if way == "eager" else (options.multiple or subject.target.multiple)
    with _prepared(subject, options, way, multiple):
        start = time.perf_counter()
        for pipe in (subject.plain, subject.cached):  # what is made once is not timed
            timed(pipe, subject.arguments())
        first = time.perf_counter() - start
        steps: dict[str, list[tuple[float, ...]]] = {"plain": [], "cached": []}
        pipes = {"plain": subject.plain, "cached": subject.cached}
        for number in range(options.rounds):
            for name in ("plain", "cached") if number % 2 == 0 else ("cached", "plain"):
                steps[name].append(timed(pipes[name], subject.arguments())[1].steps)
        report = tocache.report(subject.cached)
    plan = report.plan
    assert plan is not None
    kinds = [plan.kind_of_step(step) for step in range(plan.steps)]
    figures: dict[str, Any] = {
        "method": report.method,
        "rows": report.rows,
        "multiple": multiple,
        "graphs": report.graphs,
        "compile_seconds": None if way == "eager" else round(first, 1),
        "rounds": options.rounds,
        **spread("ms_uncached", [1e3 * one for run in steps["plain"] for one in run[1:]]),
    }
    for kind in ("full", "partial", "reuse"):
        figures[f"{kind}_steps"] = kinds.count(kind)
        # the first step of a run also opens it
        later = [pair for run in steps["cached"] for pair in list(zip(run, kinds, strict=True))[1:]]
        mine = [1e3 * seconds for seconds, of in later if of == kind]
        figures |= spread(f"ms_{kind}", mine)
    uncached, cached = ([sum(run) for run in steps[name]] for name in ("plain", "cached"))
    saved = flops_uncached(plan) / flops_planned(plan)
    realised = float(np.median([a / b for a, b in zip(uncached, cached, strict=True)]))
    figures |= spread("loop_uncached", uncached) | spread("loop_cached", cached)
    if "ms_full_p50" in figures:
        figures["full_step_overhead"] = round(figures["ms_full_p50"] / figures["ms_uncached_p50"] - 1, 4)
    return figures | {
        "flops_speedup": round(saved, 4),
        "scores_share": round(flops_scores(plan) / flops_planned(plan), 4),
        "realised_speedup": round(realised, 4),
        "realised_over_flops": round(realised / saved, 4),
    }


@contextmanager
def _prepared(subject: Subject, options: Options, way: str, multiple: int) -> Iterator[None]:
    """The cache on one pipeline, and both compiled where that is the way; afterwards both are as they were."""
    ahead: dict[str, Any] = {"modulate_ahead": True} if options.ahead else {}
    compiled = _options_of(way, options.tiny)
    try:
        tocache.enable(subject.cached, subject.target.preset, **ahead)
        if options.ahead:
            tocache.enable(subject.plain, tocache.Uncached(), **ahead)
        if compiled is not None:
            tocache.compile(subject.cached, multiple=multiple, most=_MOST, **compiled)
            if options.ahead:
                tocache.compile(subject.plain, **compiled)
            else:
                subject.plain.transformer.compile(fullgraph=True, dynamic=False, **compiled)
        yield
    finally:
        tocache.disable(subject.cached)
        tocache.disable(subject.plain)
        subject.plain.transformer._compiled_call_impl = None  # what Module.compile sets; there is no call to undo it


def _options_of(way: str, tiny: bool) -> Mapping[str, Any] | None:
    """Of torch.compile; None for eager runs."""
    if way == "eager":
        return None
    if tiny:  # the tracing alone: Inductor takes minutes on a CPU
        return {"backend": "eager"}
    return {"mode": "reduce-overhead"} if way == "graphs" and torch.cuda.is_available() else {}
