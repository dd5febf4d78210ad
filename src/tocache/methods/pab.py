"""Pyramid Attention Broadcast: each kind of attention is reused for a time of its own, in the middle of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tocache.methods.base import Method, check, check_interval, is_number
from tocache.models.registry import family_named
from tocache.plan.anatomy import CROSS_ATTENTION, SELF_ATTENTION, TEMPORAL_ATTENTION, Anatomy
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import Policy


@dataclass(frozen=True)
class PAB(Method):
    """PAB (Zhao et al., arXiv 2408.12588, §3.3): attention is computed every few steps while times are between two.

    spatial, temporal, cross   steps from one computation of that kind of attention to the next; published for
                               Open-Sora 1.2: 2, 4, 6 and 3, 5, 7 and 5, 7, 9
    begin, end                 the times, from 1000 down to 0, between which attention is reused
    """

    name: ClassVar[str] = "pab"

    spatial: int = 2
    temporal: int = 4
    cross: int = 6
    begin: float = 930.0
    end: float = 450.0

    def __post_init__(self) -> None:
        for option in ("spatial", "temporal", "cross"):
            check_interval(getattr(self, option), option)
        for option in ("begin", "end"):
            check(option, getattr(self, option), is_number(getattr(self, option), 0, 1000), "0 … 1000")
        check("end", self.end, self.end <= self.begin, f"at most begin, {self.begin:g}")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        intervals = {SELF_ATTENTION: self.spatial, TEMPORAL_ATTENTION: self.temporal, CROSS_ATTENTION: self.cross}
        sites = anatomies[0].sites
        fresh = np.full((steps, len(anatomies), len(sites)), ALL, dtype=np.int32)
        for p, anatomy in enumerate(anatomies):
            times = np.array(anatomy.times or family_named(anatomy.family).timesteps(anatomy.shape, steps))
            between = (self.end < times) & (times < self.begin)
            for i, site in enumerate(sites):
                if site.kind in intervals:
                    # the published count runs over all steps, not only those between the two times
                    fresh[between & (np.arange(steps) % intervals[site.kind] != 0), p, i] = 0
        fresh[0] = ALL
        return Plan(tuple(anatomies), fresh, Policy(), str(self))
