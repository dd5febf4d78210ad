"""Full steps where they were found to matter; between them a forecast, and in some steps fresh tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tocache.methods.base import Method, check, is_count, is_number, is_share
from tocache.methods.forecasting import WHERE, served_between
from tocache.plan.anatomy import KINDS, Anatomy
from tocache.plan.budget import Budget
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.plan.schedule import Listed


@dataclass(frozen=True)
class Placed(Method):
    """Full steps where `tocache tune` found them to matter (no paper); by default as on demo:text.

    full         the full steps, in ascending order, the first of them 0
    of           the number of steps that they were found for; in a run of another number as large a share is full, as
                 dense at each time of the run
    where        "stack": what all blocks of a stack add is the one feature; "sublayers": each sub-layer's output; None:
                 the stack where that can be one feature, else its sub-layers
    stale        what is served: "reuse", or the basis of a forecast; order, contraction and low: as in Policy
    partial      steps in which some tokens are computed, in ascending order, none of them full; only of sub-layers
    fresh_ratio  how many of all tokens these are; kinds: the factor of each kind of sub-layer, by name; None: 1 for
                 those that compute single tokens without the others' keys
    scores       how tokens are chosen, None: by the norm of what comes in; share, staleness and queries as in Policy
    """

    name: ClassVar[str] = "placed"

    full: Sequence[int] = (0, 2, 4, 5, 7, 9, 15)
    of: int = 20
    where: str | None = None
    stale: str = "reuse"
    order: int = 0
    contraction: float = 0.5
    low: float = 0.0
    partial: Sequence[int] = ()
    fresh_ratio: float = 0.1
    kinds: Mapping[str, float] | None = None
    scores: Mapping[str, float] | None = None
    share: str = "step"
    staleness: float = 0.25
    queries: float = 1.0

    def __post_init__(self) -> None:
        for name in ("full", "partial"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        check("of", self.of, is_count(self.of), "an integer >= 1")
        good = self._ascending(self.full) and self.full[:1] == (0,)
        check("full", self.full, good, f"ascending steps from 0 to at most {self.of - 1}, the first of them 0")
        good = self._ascending(self.partial) and not set(self.partial) & set(self.full)
        check("partial", self.partial, good, f"ascending steps up to {self.of - 1} that are not full")
        check("where", self.where, self.where in (None, *WHERE), " | ".join(("None", *WHERE)))
        check("partial", self.partial, not self.partial or self.where == "sublayers", '() unless where="sublayers"')
        check("fresh_ratio", self.fresh_ratio, is_number(self.fresh_ratio, 0, 1), "0 … 1")
        for kind in self.kinds or ():
            check("kinds", kind, kind in KINDS, " | ".join(KINDS))
        check("queries", self.queries, is_share(self.queries), "above 0, up to 1")
        self._policy()

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        full = self.moved(steps)
        anatomies, fresh = served_between(anatomies, steps, Listed(full), self.where)
        kinds = self.kinds
        if kinds is None:
            kinds = {site.kind: 1.0 for site in anatomies[0].sites if site.rows and not site.pairs}
        budget = Budget(self.fresh_ratio, kinds)
        for step in self._partial_in(steps, full):
            for p, anatomy in enumerate(anatomies):
                for i, site in enumerate(anatomy.sites):
                    fresh[step, p, i] = budget.tokens(step, steps, site, anatomy.counted(site))
        return Plan(tuple(anatomies), fresh, self._policy(), str(self))

    def moved(self, steps: int) -> tuple[int, ...]:
        """The full steps of a run of `steps` steps."""
        return _moved(self.full, self.of, steps)

    def _partial_in(self, steps: int, full: Sequence[int]) -> tuple[int, ...]:
        return _moved(self.partial, self.of, steps, full) if self.partial else ()

    def _policy(self) -> Policy:
        served = Policy(stale=self.stale, order=self.order, contraction=self.contraction, low=self.low)
        if not self.partial:
            return served
        scores = {"norm": 1.0} if self.scores is None else self.scores
        interval = max(1, round(self.of / len(self.full)))  # the unit of staleness
        chosen = replace(served, scores=scores, share=self.share, staleness=self.staleness, interval=interval)
        return replace(chosen, queries=self.queries)

    def _ascending(self, steps: object) -> bool:
        if not isinstance(steps, tuple) or not all(isinstance(step, int) for step in steps):
            return False
        return list(steps) == sorted(set(steps)) and all(0 <= step < self.of for step in steps)


def _moved(listed: Sequence[int], of: int, steps: int, taken: Sequence[int] = ()) -> tuple[int, ...]:
    """The steps of a run of `steps` that stand for those listed of `of`: of equal share, by their running count.

    Where one would fall on another, or on one that is taken, it moves on; those that find no place are left out.
    """
    count = max(1, round(len(listed) * steps / of))
    index = np.arange(count) * len(listed) / count
    wishes = np.interp(index, np.arange(len(listed) + 1), [*listed, of]) * steps / of
    placed: list[int] = []
    for wish in wishes.round().astype(int).tolist():
        at = max(wish, placed[-1] + 1) if placed else wish
        while at in taken:
            at += 1
        placed.append(at)
    return tuple(at for at in placed if at < steps)
