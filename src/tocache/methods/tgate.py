"""T-GATE: attention to the text is computed until it has said what it has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocache.errors import OptionError
from tocache.methods.base import Method, check, check_interval, is_number
from tocache.plan.anatomy import CROSS_ATTENTION, SELF_ATTENTION, TEMPORAL_ATTENTION, Anatomy
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import Policy


@dataclass(frozen=True)
class TGATE(Method):
    """T-GATE (Zhang et al., arXiv 2404.02747): from a gate on, cross-attention is reused for the rest of the run.

    gate      share of the run after which the last computed cross-attention serves all that follow
    interval  before the gate, self-attention is computed every so many steps, and after it in each step
    warmup    steps to begin with in which all attention is computed

    The published code also drops the unconditional half after the gate and averages both halves' cross-attention; here
    the halves stay apart, and guidance stays what it was. Raises OptionError for a model without cross-attention.
    """

    name: ClassVar[str] = "tgate"

    gate: float = 0.4
    interval: int = 1
    warmup: int = 2

    def __post_init__(self) -> None:
        check("gate", self.gate, is_number(self.gate, 0, 1), "0 … 1")
        check_interval(self.interval)
        check_interval(self.warmup, "warmup")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        sites = anatomies[0].sites
        if not any(site.kind == CROSS_ATTENTION for site in sites):
            raise OptionError(f"TGATE is for models with cross-attention; {anatomies[0].model} has none")
        fresh = np.full((steps, len(anatomies), len(sites)), ALL, dtype=np.int32)
        step = np.arange(steps)
        gated = step >= max(1, round(self.gate * steps))
        resting = ~gated & (step >= self.warmup) & ((step - self.warmup) % self.interval != 0)
        for i, site in enumerate(sites):
            if site.kind == CROSS_ATTENTION:
                fresh[gated, :, i] = 0
            elif site.kind in (SELF_ATTENTION, TEMPORAL_ATTENTION):
                fresh[resting, :, i] = 0
        return Plan(tuple(anatomies), fresh, Policy(), str(self))
