"""Each token forecast in its own way, by what the first block shows in every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocache.methods.base import Method, check, check_interval
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import CLOCKS, STALE, Policy
from tocache.plan.schedule import Every


@dataclass(frozen=True)
class TAP(Method):
    """TAP (Zhu et al., arXiv 2603.03792): the order of each token's forecast is what the first block finds best.

    interval  steps from one full step to the next
    order     the greatest order of a token's forecast; of the orders from 0 (reuse) to it one is chosen
    warmup    full steps to begin with
    basis     of the forecasts: "taylor", as published, or another one
    clock     "steps" or "times", as for TaylorSeer
    probe     how many blocks at the beginning of each stack are computed in every step

    Served is what the other blocks of a stack add to its residual; the published form may also vary how far back a
    forecast looks.
    """

    name: ClassVar[str] = "tap"

    interval: int = 3
    order: int = 2
    warmup: int = 2
    basis: str = "taylor"
    clock: str = "steps"
    probe: int = 1

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check("order", self.order, isinstance(self.order, int) and 1 <= self.order <= 4, "1 … 4")
        check_interval(self.warmup, "warmup")
        check("basis", self.basis, self.basis in STALE[1:], " | ".join(STALE[1:]))
        check("clock", self.clock, self.clock in CLOCKS, " | ".join(CLOCKS))
        check_interval(self.probe, "probe")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        schedule = Every(self.interval, self.warmup)
        served = {}  # by name of the region
        site = anatomies[0].sites[0]  # whichever: `Every` treats all alike
        for span, depth in anatomies[0].spans.items():
            check("probe", self.probe, self.probe < depth, f"1 … {depth - 1}, all blocks but one")
            for first, last in ((0, self.probe - 1), (self.probe, depth - 1)):
                anatomies = [anatomy.with_region(span, first, last) for anatomy in anatomies]
            served[f"{span}[{self.probe}:{depth}]"] = ~schedule.full(steps, site)
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        for name, between in served.items():
            fresh[between, :, anatomies[0].index[name]] = 0
        policy = Policy(stale=self.basis, order=self.order, clock=self.clock, adaptive=True)
        return Plan(tuple(anatomies), fresh, policy, str(self))
