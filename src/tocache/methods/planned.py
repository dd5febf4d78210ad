"""A plan that exists already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.errors import PlanMismatchError
from tocache.methods.base import Method
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan


@dataclass(frozen=True)
class Planned(Method):
    """Runs a plan that was made before: loaded from a file, edited, or tuned.

    At another number of steps it raises PlanMismatchError, unless `resample` allows stretching it.
    """

    name: ClassVar[str] = "plan"

    given: Plan
    resample: bool = False

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        plan = self.given
        if plan.steps != steps:
            if not self.resample:
                raise PlanMismatchError(
                    f"the plan was made for something else; steps: plan {plan.steps}, here {steps} "
                    "(resample=True, or Plan.resampled, stretches it)"
                )
            plan = plan.resampled(steps)
        return plan.rebased(anatomies)

    def __str__(self) -> str:
        return self.given.method
