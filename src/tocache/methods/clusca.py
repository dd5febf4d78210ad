"""ClusCa: tokens in clusters, one of each computed, its change passed on to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.errors import OptionError
from tocache.methods.base import Method, check, check_interval, fill_table, is_count, is_number, recipe_of
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import Policy
from tocache.plan.schedule import Every


@dataclass(frozen=True)
class ClusCa(Method):
    """ClusCa (Zheng et al., arXiv 2509.10312): one token of each k-means cluster is computed between full steps.

    interval     steps from one full step to the next
    clusters     how many there are; of each one token, drawn at random, is computed in the kinds of sub-layer that
                 the family's recipe names
    propagation  share of the way that the other tokens of a cluster move to the computed one
    order        of the Taylor forecast that they start from; 0 reuses
    warmup       full steps to begin with

    Clusters and tokens are those of the whole step: k-means runs once, on the input of its first such sub-layer.
    """

    name: ClassVar[str] = "clusca"

    interval: int = 5
    clusters: int = 16
    propagation: float = 0.007
    order: int = 1
    warmup: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check("clusters", self.clusters, is_count(self.clusters), "an integer >= 1")
        check("propagation", self.propagation, is_number(self.propagation, 0, 1), "0 … 1")
        check("order", self.order, isinstance(self.order, int) and 0 <= self.order <= 4, "0 … 4")
        check_interval(self.warmup, "warmup")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        recipe = recipe_of(anatomies, steps)
        kinds = {kind for kind, factor in recipe.budget.kinds.items() if factor > 0}
        schedule = Every(self.interval, self.warmup)
        fresh = fill_table(anatomies, steps, schedule, None)
        for p, anatomy in enumerate(anatomies):
            for i, site in enumerate(anatomy.sites):
                if site.rows and site.kind in kinds:
                    tokens = anatomy.tokens(site)
                    if self.clusters > tokens:
                        raise OptionError(f"clusters={self.clusters} is not allowed; allowed: 1 … {tokens} tokens")
                    fresh[~schedule.full(steps, site), p, i] = self.clusters
        policy = Policy(
            scores={"random": 1.0},
            share="step",
            together=recipe.policy.together,
            stale="taylor" if self.order else "reuse",
            order=self.order,
            clusters=self.clusters,
            propagation=self.propagation,
            seed=self.seed,
        )
        return Plan(tuple(anatomies), fresh, policy, str(self))
