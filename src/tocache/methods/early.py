"""Full steps that are dense where the run begins, whatever model and number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.methods.base import Method, check, check_interval, is_number
from tocache.methods.forecasting import WHERE, served_between
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import STALE, Policy
from tocache.plan.schedule import Spaced


@dataclass(frozen=True)
class Early(Method):
    """Full steps that get rarer over the run (no paper; docs/frontier.md has what it was measured against).

    interval  steps of the run for each full one, on average, so about the FLOPs ratio; it need not be whole
    power     how much rarer: full step k of n is step S · (k / n) ^ power of S; 1 is even distances
    warmup    full steps to begin with
    where     "stack": what all blocks of a stack add is the one feature; "sublayers": each sub-layer's output; None:
              the stack where that can be one feature, else its sub-layers
    stale     what is served: "reuse", or the basis of a forecast; order: its order
    """

    name: ClassVar[str] = "early"

    interval: float = 2.0
    power: float = 2.0
    warmup: int = 1
    where: str | None = None
    stale: str = "reuse"
    order: int = 0

    def __post_init__(self) -> None:
        check("interval", self.interval, is_number(self.interval, 1, 1e6), "a number >= 1")
        check("power", self.power, is_number(self.power, 0.1, 10), "0.1 … 10")
        check_interval(self.warmup, "warmup")
        check("where", self.where, self.where in (None, *WHERE), " | ".join(("None", *WHERE)))
        check("stale", self.stale, self.stale in STALE, " | ".join(STALE))
        check("order", self.order, isinstance(self.order, int) and 0 <= self.order <= 4, "0 … 4")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        schedule = Spaced(max(self.warmup, round(steps / self.interval)), self.power, self.warmup)
        anatomies, fresh = served_between(anatomies, steps, schedule, self.where)
        return Plan(tuple(anatomies), fresh, Policy(stale=self.stale, order=self.order), str(self))
