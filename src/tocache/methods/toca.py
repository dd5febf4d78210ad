"""ToCa: between full steps, the tokens that matter are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tocache.methods.base import Method, check, check_interval, fill_table, is_count, is_number, is_share, recipe_of
from tocache.models.registry import recipe_named
from tocache.plan.anatomy import KINDS, Anatomy
from tocache.plan.plan import Plan
from tocache.plan.policy import CLOCKS, COMBINATIONS, SCORES, SHARES, STALE
from tocache.plan.recipe import Recipe


@dataclass(frozen=True)
class ToCa(Method):
    """Token-wise feature Caching (arXiv 2410.05317, §3): between full steps, the tokens that matter are computed.

    What is None is taken from the recipe that was published for the model at hand (`recipe` names another one):
    interval       steps between full ones, N in the paper
    fresh_ratio    fraction of tokens computed in between, 1 − R in the paper; 0 is FORA
    schedule       "weighted" (published: intervals shrink over the run) or "constant"
    ratio          "weighted" (published: by time, depth and kind of sub-layer) or "constant"
    time, depth    the weights of a weighted ratio (§3.4); kinds: the factor of each kind of site, by name
    scores         base scores by weight: {"influence": 1} is s1 (self-attention), {"entropy": 1} s2
                   (cross-attention); also "drift", "random", "norm", "similarity", "value-norm", "key-norm"
    staleness      weight of s3, 0 switches it off
    spread         weight of s4, 0 switches it off; spread_size: side of its cells, in tokens
    share          how widely one choice is shared: "sublayer" (published), "block" or "step"
    queries        share of the queries that s1 is estimated from in a full step; 1 is exact (published)
    together       whether both guidance halves choose the same tokens
    combine        "sum" (published) or "product" of scores and staleness (see Policy)
    stale, order   what the other tokens get: "reuse" (published), or the basis of a forecast and its order
    clock          what a forecast counts in: "steps", or the scheduler's "times"
    """

    name: ClassVar[str] = "toca"

    interval: int | None = None
    fresh_ratio: float | None = None
    recipe: str | None = None
    schedule: str = "weighted"
    ratio: str = "weighted"
    time: float | None = None
    depth: float | None = None
    kinds: Mapping[str, float] | None = None
    scores: Mapping[str, float] | None = None
    staleness: float | None = None
    spread: float | None = None
    spread_size: int | None = None
    share: str = "sublayer"
    together: bool | None = None
    combine: str = "sum"
    stale: str = "reuse"
    order: int = 0
    clock: str = "steps"
    seed: int = 0
    queries: float = 1.0

    def __post_init__(self) -> None:
        if self.interval is not None:
            check_interval(self.interval)
        if self.fresh_ratio is not None:
            check("fresh_ratio", self.fresh_ratio, is_number(self.fresh_ratio, 0, 1), "0 … 1")
        if self.recipe is not None:
            recipe_named(self.recipe)
        for name in ("schedule", "ratio"):
            check(name, getattr(self, name), getattr(self, name) in ("weighted", "constant"), "weighted | constant")
        for name in ("staleness", "spread"):
            value = getattr(self, name)
            check(name, value, value is None or is_number(value, 0, math.inf), "a number >= 0")
        for name in ("time", "depth"):
            value = getattr(self, name)
            check(name, value, value is None or is_number(value, -math.inf, math.inf), "a number")
        for name, known in (("scores", SCORES), ("kinds", KINDS)):
            weights = getattr(self, name)
            check(name, weights, weights is None or isinstance(weights, Mapping), "a mapping from names to weights")
            for key, weight in (weights or {}).items():
                check(name, key, key in known, " | ".join(known))
                check(f"{name}[{key!r}]", weight, is_number(weight, 0, math.inf), "a number >= 0")
        check("share", self.share, self.share in SHARES, " | ".join(SHARES))
        check("combine", self.combine, self.combine in COMBINATIONS, " | ".join(COMBINATIONS))
        check("stale", self.stale, self.stale in STALE, " | ".join(STALE))
        check("clock", self.clock, self.clock in CLOCKS, " | ".join(CLOCKS))
        check("order", self.order, isinstance(self.order, int) and 0 <= self.order <= 4, "0 … 4")
        check("together", self.together, self.together in (None, True, False), "None | True | False")
        check("queries", self.queries, is_share(self.queries), "above 0, up to 1")
        check("seed", self.seed, isinstance(self.seed, int) and self.seed >= 0, "an integer >= 0")
        size = self.spread_size
        check("spread_size", size, size is None or is_count(size), "an integer >= 1")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        recipe = self._recipe(recipe_of(anatomies, steps) if self.recipe is None else recipe_named(self.recipe))
        schedule = recipe.schedule.unweighted() if self.schedule == "constant" else recipe.schedule
        if recipe.budget.fresh_ratio == 0:
            schedule = recipe.schedule.without_tokens()
        budget = recipe.budget.constant() if self.ratio == "constant" else recipe.budget
        fresh = fill_table(anatomies, steps, schedule, budget)
        # the plan says what None meant
        resolved = replace(
            self, interval=recipe.schedule.interval, fresh_ratio=recipe.budget.fresh_ratio, recipe=recipe.name
        )
        return Plan(tuple(anatomies), fresh, recipe.policy, str(resolved))

    def _recipe(self, recipe: Recipe) -> Recipe:
        """`recipe` with everything that was given in its place."""
        interval = recipe.schedule.interval if self.interval is None else self.interval
        return replace(
            recipe,
            schedule=replace(recipe.schedule, interval=interval),
            budget=_given(recipe.budget, self, "fresh_ratio", "time", "depth", "kinds"),
            policy=replace(
                _given(recipe.policy, self, "scores", "staleness", "spread", "spread_size", "together"),
                interval=interval,
                share=self.share,
                combine=self.combine,
                stale=self.stale,
                order=self.order,
                clock=self.clock,
                seed=self.seed,
                queries=self.queries,
            ),
        )


def _given(target: Any, options: Any, *names: str) -> Any:
    return replace(target, **{n: getattr(options, n) for n in names if getattr(options, n) is not None})
