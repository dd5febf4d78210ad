"""Any schedule, budget and policy put together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from tocache.methods.base import Method, check, fill_table
from tocache.methods.forecasting import WHERE, served_between
from tocache.plan.anatomy import Anatomy
from tocache.plan.budget import Budget
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.plan.schedule import Schedule


@dataclass(frozen=True)
class Composed(Method):
    """When all is computed (`schedule`), how many tokens in between (`budget`), which and what others get (`policy`).

    where  "sublayers", or "stack": what all blocks of a stack add together is the one feature; no fresh tokens then
    """

    name: ClassVar[str] = "composed"

    schedule: Schedule
    budget: Budget | None = None
    policy: Policy = field(default_factory=Policy)
    where: str = "sublayers"

    def __post_init__(self) -> None:
        check("where", self.where, self.where in WHERE, " | ".join(WHERE))
        if self.budget is not None:
            check("budget", self.budget, self.where == "sublayers", 'None where="stack"')

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        if self.budget is None:
            anatomies, fresh = served_between(anatomies, steps, self.schedule, self.where)
        else:
            fresh = fill_table(anatomies, steps, self.schedule, self.budget)
        return Plan(tuple(anatomies), fresh, self.policy, str(self))
