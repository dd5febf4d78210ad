"""The methods: frozen, validated settings, each of which makes a plan from what is known before the run."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tocache.errors import OptionError, PlanMismatchError, nearest
from tocache.models.registry import family_named, recipe_named
from tocache.plan.anatomy import KINDS, Anatomy
from tocache.plan.budget import Budget
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import SCORES, SHARES, Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Schedule


class Method(ABC):
    """Base of all methods. Unknown options raise OptionError, like values out of range."""

    name: ClassVar[str]

    def __new__(cls, *args: Any, **options: Any) -> Method:
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for option in options:
            if option not in known:
                hint = nearest(option, known)
                raise OptionError(f"{cls.__name__} has no option {option!r}{hint}; options: {', '.join(sorted(known))}")
        return super().__new__(cls)

    @abstractmethod
    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        """The plan for a run of `steps` steps, with one anatomy per pass.

        Also asked once by `enable`, at the model's usual size and steps, so that what cannot be is refused there.
        """

    def __str__(self) -> str:
        """The call that makes it, with the options that are not at their defaults."""
        options = [
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{type(self).__name__}({', '.join(options)})"


@dataclass(frozen=True)
class Uncached(Method):
    """Everything is computed in every step: the model as it is, with the engine's bookkeeping."""

    name: ClassVar[str] = "none"

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        return Plan(tuple(anatomies), fresh, Policy(), str(self))


@dataclass(frozen=True)
class FORA(Method):
    """FORA (arXiv 2407.01425): every `interval` steps all layers are computed, in between all are reused."""

    name: ClassVar[str] = "fora"

    interval: int = 3

    def __post_init__(self) -> None:
        _check_interval(self.interval)

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        schedule = _recipe_of(anatomies, steps).schedule.as_fora(self.interval)
        return Plan(tuple(anatomies), fill_table(anatomies, steps, schedule, None), Policy(), str(self))


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
                   (cross-attention); also "random", "norm", "similarity", "value-norm", "key-norm"
    staleness      weight of s3, 0 switches it off
    spread         weight of s4, 0 switches it off; spread_size: side of its cells, in tokens
    share          how widely one choice is shared: "sublayer" (published), "block" or "step"
    together       whether both guidance halves choose the same tokens
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
    seed: int = 0

    def __post_init__(self) -> None:
        if self.interval is not None:
            _check_interval(self.interval)
        if self.fresh_ratio is not None:
            _check("fresh_ratio", self.fresh_ratio, _is_number(self.fresh_ratio, 0, 1), "0 … 1")
        if self.recipe is not None:
            recipe_named(self.recipe)
        for name in ("schedule", "ratio"):
            _check(name, getattr(self, name), getattr(self, name) in ("weighted", "constant"), "weighted | constant")
        for name in ("staleness", "spread"):
            value = getattr(self, name)
            _check(name, value, value is None or _is_number(value, 0, math.inf), "a number >= 0")
        for name in ("time", "depth"):
            value = getattr(self, name)
            _check(name, value, value is None or _is_number(value, -math.inf, math.inf), "a number")
        for name, known in (("scores", SCORES), ("kinds", KINDS)):
            weights = getattr(self, name)
            _check(name, weights, weights is None or isinstance(weights, Mapping), "a mapping from names to weights")
            for key, weight in (weights or {}).items():
                _check(name, key, key in known, " | ".join(known))
                _check(f"{name}[{key!r}]", weight, _is_number(weight, 0, math.inf), "a number >= 0")
        _check("share", self.share, self.share in SHARES, " | ".join(SHARES))
        _check("together", self.together, self.together in (None, True, False), "None | True | False")
        _check("seed", self.seed, isinstance(self.seed, int) and self.seed >= 0, "an integer >= 0")
        size = self.spread_size
        _check("spread_size", size, size is None or _is_count(size), "an integer >= 1")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        recipe = self._recipe(_recipe_of(anatomies, steps) if self.recipe is None else recipe_named(self.recipe))
        schedule = recipe.schedule.unweighted() if self.schedule == "constant" else recipe.schedule
        if recipe.budget.fresh_ratio == 0:  # published so: without fresh tokens it is FORA
            schedule = recipe.schedule.as_fora(recipe.schedule.interval)
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
                seed=self.seed,
            ),
        )


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


METHODS: dict[str, type[Method]] = {method.name: method for method in (Uncached, FORA, ToCa)}


def fill_table(
    anatomies: Sequence[Anatomy], steps: int, schedule: Schedule, budget: Budget | None
) -> np.typing.NDArray[np.int32]:
    """(steps, passes, sites): ALL where `schedule` says full, else what `budget` allows (nothing where it is None)."""
    sites = anatomies[0].sites
    fresh = np.zeros((steps, len(anatomies), len(sites)), dtype=np.int32)
    for p, anatomy in enumerate(anatomies):
        for i, site in enumerate(sites):
            full = schedule.full(steps, site)
            fresh[full, p, i] = ALL
            if budget is not None and site.rows:
                for step in np.flatnonzero(~full):
                    fresh[step, p, i] = budget.tokens(int(step), steps, site, anatomy.tokens(site))
    return fresh


def _recipe_of(anatomies: Sequence[Anatomy], steps: int) -> Recipe:
    return family_named(anatomies[0].family).recipe(steps)


def _given(target: Any, options: Any, *names: str) -> Any:
    return replace(target, **{n: getattr(options, n) for n in names if getattr(options, n) is not None})


def _check_interval(interval: object) -> None:
    _check("interval", interval, _is_count(interval), "an integer >= 1")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _check(name: str, value: object, allowed: bool, range_: str) -> None:
    if not allowed:
        raise OptionError(f"{name}={value!r} is not allowed; allowed: {range_}")
