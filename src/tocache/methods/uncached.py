"""No cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocache.methods.base import Method
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import Policy


@dataclass(frozen=True)
class Uncached(Method):
    """Everything is computed in every step: the model as it is, with the engine's bookkeeping."""

    name: ClassVar[str] = "none"

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        return Plan(tuple(anatomies), fresh, Policy(), str(self))
