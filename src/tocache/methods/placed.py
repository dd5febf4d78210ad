"""Full steps where they were found to matter; all is reused between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.methods.base import Method, check, is_count
from tocache.methods.forecasting import WHERE, served_between
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.plan.schedule import Listed


@dataclass(frozen=True)
class Placed(Method):
    """Reuse between full steps, where `tocache tune` found them to matter (no paper); by default as on demo:text.

    full   the full steps, in ascending order, the first of them 0
    of     the number of steps that they were found for; a run of another number moves them in proportion
    where  "stack": what all blocks of a stack add together is the one feature; "sublayers": each sub-layer's output
    """

    name: ClassVar[str] = "placed"

    full: Sequence[int] = (0, 2, 4, 5, 7, 9, 15)
    of: int = 20
    where: str = "stack"

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", tuple(self.full) if isinstance(self.full, list) else self.full)
        check("of", self.of, is_count(self.of), "an integer >= 1")
        good = isinstance(self.full, tuple) and self.full[:1] == (0,) and all(isinstance(s, int) for s in self.full)
        good = good and list(self.full) == sorted(set(self.full)) and self.full[-1] < self.of
        check("full", self.full, good, f"ascending steps from 0 to at most {self.of - 1}, the first of them 0")
        check("where", self.where, self.where in WHERE, " | ".join(WHERE))

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        schedule = Listed(self.moved(steps))
        anatomies, fresh = served_between(anatomies, steps, schedule, self.where)
        return Plan(tuple(anatomies), fresh, Policy(), str(self))

    def moved(self, steps: int) -> tuple[int, ...]:
        """The full steps of a run of `steps` steps; where two would fall on one, the later moves on."""
        placed: list[int] = []
        for step in self.full:
            wish = round(step * steps / self.of)
            placed.append(max(wish, placed[-1] + 1) if placed else 0)
        return tuple(step for step in placed if step < steps)
