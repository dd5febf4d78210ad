"""Δ-DiT: the residual of half the blocks is reused, of the rear ones first and of the front ones later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocache.methods.base import Method, check, check_interval, is_number
from tocache.plan.anatomy import REGION, Anatomy
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import Policy


@dataclass(frozen=True)
class DeltaDiT(Method):
    """Δ-DiT (Chen et al., arXiv 2406.01125): what a span of blocks adds to its input is reused between full steps.

    interval  steps from one full step to the next
    blocks    how many blocks of each stack are served, at most half of them; None: half
    turn      share of the run after which the front blocks, which draw outlines, are served instead of the rear ones,
              which draw details
    """

    name: ClassVar[str] = "delta-dit"

    interval: int = 2
    blocks: int | None = None
    turn: float = 0.5

    def __post_init__(self) -> None:
        check_interval(self.interval)
        if self.blocks is not None:
            check_interval(self.blocks, "blocks")
        check("turn", self.turn, is_number(self.turn, 0, 1), "0 … 1")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        front: set[str] = set()
        for span, depth in anatomies[0].spans.items():
            count = depth // 2 if self.blocks is None else self.blocks
            check("blocks", count, 1 <= count <= depth // 2, f"1 … {depth // 2}, half of {span}")
            for first in (0, depth - count):
                anatomies = [anatomy.with_region(span, first, first + count - 1) for anatomy in anatomies]
            front.add(f"{span}[0:{count}]")
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        step = np.arange(steps)
        between, late = step % self.interval != 0, step >= self.turn * steps
        for i, site in enumerate(anatomies[0].sites):
            if site.kind == REGION:
                fresh[between & (late if site.name in front else ~late), :, i] = 0
        return Plan(tuple(anatomies), fresh, Policy(), str(self))
