"""FORA: every layer is reused between full steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.methods.base import Method, check_interval, fill_table, recipe_of
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy


@dataclass(frozen=True)
class FORA(Method):
    """FORA (arXiv 2407.01425): every `interval` steps all layers are computed, in between all are reused."""

    name: ClassVar[str] = "fora"

    interval: int = 3

    def __post_init__(self) -> None:
        check_interval(self.interval)

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        schedule = recipe_of(anatomies, steps).schedule.as_fora(self.interval)
        return Plan(tuple(anatomies), fill_table(anatomies, steps, schedule, None), Policy(), str(self))
