"""What compiled steps make of the frontier: trained demos, seconds and distance to the uncached pictures.

The demos are small and ship with the package; their pictures mean something, where those of random weights do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import tocache
from on_gpu.jobs import Job, Options
from on_gpu.table import spread, spread_columns
from tocache.evaluation.clock import timed
from tocache.evaluation.metrics import psnr
from tocache.evaluation.prompts import Task, batch_arguments, tasks_for
from tocache.generation import load_pipeline
from tocache.generation.batches import pictures_of
from tocache.methods import METHODS, Method
from tocache.methods.spec import make_method, parse_method
from tocache.plan import flops_planned, flops_uncached

COLUMNS = (
    *("model", "method", "dtype", "pictures", "steps", "multiple", "graphs", "rounds"),
    *spread_columns("loop_uncached", "loop_cached"),
    *("flops_speedup", "realised_speedup", "realised_over_flops", "psnr", "judge_distance"),
)
METHOD_NAMES = (
    *("toca:interval=2", "toca:interval=3", "toca:interval=5", "toca:interval=8"),
    *("fora:interval=2", "fora:interval=3", "fora:interval=5"),
    *("taylorseer:interval=3", "taylorseer:interval=5", "taylorseer:interval=8"),
)
_MULTIPLE = 32


def jobs(device: torch.device, options: Options) -> list[Job]:
    """One row for each method, compiled, on a batch of the demo of captions."""
    model = "demo:random-text" if options.tiny else "demo:text"
    names = METHOD_NAMES[:1] if options.tiny else METHOD_NAMES
    match = _Match(model, device, options)
    return [Job({"model": model, "method": name, "dtype": match.dtype}, partial(match.measure, name)) for name in names]


class _Match:
    """The demo uncached, compiled once, and again with each method."""

    def __init__(self, model: str, device: torch.device, options: Options) -> None:
        self.model, self.device, self.options = model, device, options
        self.dtype = "bf16" if device.type == "cuda" else "fp32"
        self.compiled: Mapping[str, Any] = {"backend": "eager"} if options.tiny else {}
        self.pipes: tuple[Any, Any] | None = None
        self.tasks: Sequence[Task] = ()

    def measure(self, name: str) -> dict[str, Any]:
        plain, cached = self._pipes()
        tocache.enable(cached, _method(name))
        tocache.compile(cached, multiple=_MULTIPLE, **self.compiled)
        try:
            uncached_loops, cached_loops = [], []
            for _ in range(1 + self.options.rounds):  # the first compiles
                expected, one = timed(plain, self._arguments(plain))
                pictures, other = timed(cached, self._arguments(cached))
                uncached_loops.append(sum(one.steps))
                cached_loops.append(sum(other.steps))
            report = tocache.report(cached)
        finally:
            tocache.disable(cached)
        plan = report.plan
        assert plan is not None
        ratios = [a / b for a, b in zip(uncached_loops[1:], cached_loops[1:], strict=True)]
        saved, realised = flops_uncached(plan) / flops_planned(plan), float(np.median(ratios))
        return {
            "pictures": len(self.tasks),
            "steps": plan.steps,
            "multiple": _MULTIPLE,
            "graphs": report.graphs,
            "rounds": self.options.rounds,
            **spread("loop_uncached", uncached_loops[1:]),
            **spread("loop_cached", cached_loops[1:]),
            "flops_speedup": round(saved, 4),
            "realised_speedup": round(realised, 4),
            "realised_over_flops": round(realised / saved, 4),
            **_distances(pictures_of(pictures), pictures_of(expected), judged=not self.options.tiny),
        }

    def _pipes(self) -> tuple[Any, Any]:
        if self.pipes is None:
            load = partial(load_pipeline, self.model, device=str(self.device), dtype=self.dtype)
            self.pipes = (load(), load())
            self.tasks = tasks_for(self.pipes[0], self.model, 2 if self.options.tiny else 8, seed=0)
            self.pipes[0].transformer.compile(fullgraph=True, dynamic=False, **self.compiled)
        return self.pipes

    def _arguments(self, pipe: Any) -> dict[str, Any]:
        steps = 6 if self.options.tiny else None
        return batch_arguments(pipe, self.tasks, {"steps": steps, "guidance": None, "size": {}})


def _method(name: str) -> Method:
    known, options = parse_method(name, METHODS)
    return make_method(known, options, METHODS)


def _distances(pictures: torch.Tensor, expected: torch.Tensor, *, judged: bool) -> dict[str, Any]:
    """Means over the pictures, which are (B, 3, H, W) in [0, 1]."""
    pictures, expected = pictures.float().cpu(), expected.float().cpu()
    found = {"psnr": round(float(psnr(pictures, expected).mean()), 3)}
    if judged:
        from tocache.demo.judge import perceptual_distance

        found["judge_distance"] = round(float(perceptual_distance(pictures, expected).mean()), 5)
    return found
