"""What a plan's seconds would be at the limits of a processor: a prediction, which no run has measured.

A site takes as long as the slower of two: its FLOPs at the processor's peak, or its bytes at the memory's. No kernel
reaches either, and what it takes to start one is left out, so seconds are a lower bound. Ratios of them say which
share of the saved FLOPs the memory leaves, if kernels come equally near to the limit that binds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError, UnknownNameError
from tocache.plan.cost import everything, flops_by_site, flops_planned, flops_uncached
from tocache.plan.plan import Plan
from tocache.plan.score_cost import scores_by_site
from tocache.plan.traffic import Traffic, traffic, traffic_uncached

OUTSIDE = "outside of sites"
UNCACHED = "uncached"


@dataclass(frozen=True)
class Processor:
    """Peaks in bfloat16 and float16, dense, summed in float32, as the vendor gives them."""

    name: str
    flops_per_second: float
    bytes_per_second: float
    source: str

    @property
    def ridge(self) -> float:
        """FLOPs per byte below which the memory is what takes the time."""
        return self.flops_per_second / self.bytes_per_second

    def seconds(self, flops: NDArray[np.int64], moved: NDArray[np.int64]) -> NDArray[np.float64]:
        """At the limit that binds; arrays of one shape."""
        return np.asarray(np.maximum(flops / self.flops_per_second, moved / self.bytes_per_second))


# The datasheets' figures with sparsity are twice as high; where only those stand, half of them is taken.
PROCESSORS = {
    "h100": Processor("H100 SXM", 989.5e12, 3.35e12, "NVIDIA H100 datasheet: 1,979 TFLOPS with sparsity, 3.35 TB/s"),
    "h200": Processor("H200 SXM", 989.5e12, 4.8e12, "NVIDIA H200 datasheet: 1,979 TFLOPS with sparsity, 4.8 TB/s"),
    "a100": Processor("A100 SXM 80 GB", 312e12, 2.039e12, "NVIDIA A100 datasheet: 312 TFLOPS, 2,039 GB/s"),
    "rtx4090": Processor("RTX 4090", 165.2e12, 1.008e12, "NVIDIA Ada architecture paper: 165.2 TFLOPS, 1,008 GB/s"),
    "l40s": Processor("L40S", 362.05e12, 0.864e12, "NVIDIA L40S datasheet: 362.05 TFLOPS, 864 GB/s"),
}


@dataclass(frozen=True)
class Work:
    """What one step asks of some of its sites; means over the steps of a kind."""

    flops: float
    weights: float  # bytes
    activations: float  # bytes
    cache: float  # bytes
    seconds: float
    bound: float  # share of the seconds in which the memory is the limit

    @property
    def moved(self) -> float:
        """Bytes in all."""
        return self.weights + self.activations + self.cache


@dataclass(frozen=True)
class Prediction:
    """Of one plan on one processor.

    steps  how many of each kind: full, partial, reuse
    work   by kind of step, UNCACHED among them, and kind of site, OUTSIDE among them
    """

    processor: Processor
    steps: Mapping[str, int]
    work: Mapping[str, Mapping[str, Work]]
    by_step: NDArray[np.float64]  # (steps,) seconds
    uncached_by_step: NDArray[np.float64]
    flops_speedup: float

    @property
    def realised_speedup(self) -> float:
        """Seconds of the run without a cache ÷ with it."""
        return float(self.uncached_by_step.sum() / self.by_step.sum())

    @property
    def realised_over_flops(self) -> float:
        """Which share of the saved FLOPs becomes saved seconds."""
        return self.realised_speedup / self.flops_speedup


def processor_named(name: str) -> Processor:
    """Raises UnknownNameError, which lists those that there are."""
    if name not in PROCESSORS:
        raise UnknownNameError.of("processor", name, PROCESSORS)
    return PROCESSORS[name]


def attaining(processor: Processor, share: float) -> Processor:
    """`processor` with matrix products at this share of its peak, as kernels have them. Raises OptionError."""
    if not 0 < share <= 1:
        raise OptionError(f"attained={share!r} is not allowed; allowed: a share of the peak, above 0, up to 1")
    if share == 1:
        return processor
    name = f"{processor.name} at {share:.0%} of its FLOPs"
    return replace(processor, name=name, flops_per_second=share * processor.flops_per_second)


def predict(plan: Plan, processor: Processor, *, scores: bool = True, ahead: bool = False) -> Prediction:
    """Seconds of every step of `plan`, and of the same run without a cache.

    `scores` counts what attention scores take; `ahead` has the modulations of all steps computed before the
    first, in both runs, and does not count that. Raises OptionError for a plan in 4-byte numbers, for which the
    peaks do not hold.
    """
    if any(anatomy.shape.itemsize != 2 for anatomy in plan.anatomies):
        raise OptionError("a prediction needs a plan in bf16 or fp16: the peaks that are known are of these")
    kinds = [plan.kind_of_step(step) for step in range(plan.steps)]
    flops = flops_by_site(plan.anatomies, plan.amounts) + (scores_by_site(plan) if scores else 0)
    cached = _Run(plan, processor, flops, traffic(plan, scores=scores, ahead=ahead))
    uncached = _Run(
        plan, processor, flops_by_site(plan.anatomies, everything(plan)), traffic_uncached(plan, ahead=ahead)
    )
    work = {UNCACHED: uncached.work([True] * plan.steps)}
    for kind in ("full", "partial", "reuse"):
        if kind in kinds:
            work[kind] = cached.work([each == kind for each in kinds])
    return Prediction(
        processor,
        dict(Counter(kinds)),
        work,
        cached.by_step,
        uncached.by_step,
        flops_uncached(plan) / flops_planned(plan),
    )


class _Run:
    """Seconds of one run, by step, pass and site."""

    def __init__(self, plan: Plan, processor: Processor, flops: NDArray[np.int64], moved: Traffic) -> None:
        self.plan, self.flops, self.moved = plan, flops, moved
        self.seconds = processor.seconds(flops, moved.by_site)
        self.bound = self.seconds > flops / processor.flops_per_second
        # of the parameters outside it is not told which are applied to tokens; most are applied to the rows
        rows = np.array([anatomy.shape.rows for anatomy in plan.anatomies])
        self.flops_outside = rows * moved.outside  # (steps, passes): 2 for each parameter, of 2 bytes
        self.outside = processor.seconds(self.flops_outside, moved.outside)
        self.outside_bound = self.outside > self.flops_outside / processor.flops_per_second
        self.by_step = self.seconds.sum(axis=(1, 2)) + self.outside.sum(axis=1)

    def work(self, steps: list[bool]) -> dict[str, Work]:
        """By kind of site; means over the steps that are True."""
        at, count = np.flatnonzero(steps), sum(steps)
        by_kind: dict[str, list[int]] = {}
        for i, site in enumerate(self.plan.sites):
            by_kind.setdefault(site.kind, []).append(i)
        found = {}
        for kind, sites in by_kind.items():

            def mean(part: NDArray[Any], sites: list[int] = sites) -> float:
                return float(part[at][:, :, sites].sum()) / count

            seconds = mean(self.seconds)
            found[kind] = Work(
                flops=mean(self.flops),
                weights=mean(self.moved.weights),
                activations=mean(self.moved.activations),
                cache=mean(self.moved.cache),
                seconds=seconds,
                bound=mean(self.seconds * self.bound) / seconds if seconds else 0.0,
            )
        outside = float(self.outside[at].sum()) / count
        bound = float((self.outside * self.outside_bound)[at].sum()) / count / outside if outside else 0.0
        flops, weights = (float(part[at].sum()) / count for part in (self.flops_outside, self.moved.outside))
        found[OUTSIDE] = Work(flops=flops, weights=weights, activations=0.0, cache=0.0, seconds=outside, bound=bound)
        return found
