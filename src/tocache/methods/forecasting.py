"""Methods that forecast features from the last full steps, and differ in the basis of the forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tocache.methods.base import Method, check, check_interval, is_number
from tocache.plan.anatomy import REGION, TURNS, Anatomy
from tocache.plan.plan import ALL, Plan, Table
from tocache.plan.policy import CLOCKS, Policy
from tocache.plan.schedule import Every, Schedule

WHERE = ("sublayers", "stack")


@dataclass(frozen=True)
class _Forecasting(Method):
    """What they have in common; the options are TaylorSeer's."""

    basis: ClassVar[str]

    interval: int = 3
    order: int = 1
    warmup: int = 2
    where: str = "sublayers"
    clock: str = "steps"

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check("order", self.order, isinstance(self.order, int) and 0 <= self.order <= 4, "0 … 4")
        check_interval(self.warmup, "warmup")
        check("where", self.where, self.where in WHERE, " | ".join(WHERE))
        check("clock", self.clock, self.clock in CLOCKS, " | ".join(CLOCKS))

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        anatomies, fresh = served_between(anatomies, steps, Every(self.interval, self.warmup), self.where)
        policy = Policy(stale=self.basis, order=self.order, clock=self.clock, **self._options())
        return Plan(tuple(anatomies), fresh, policy, str(self))

    def _options(self) -> dict[str, Any]:
        """What the policy says beside basis and order."""
        return {}


@dataclass(frozen=True)
class TaylorSeer(_Forecasting):
    """TaylorSeer (Liu et al., arXiv 2503.06923): between full steps, features are forecast by finite differences.

    interval  steps from one full step to the next
    order     degree of the forecast; until there have been enough full steps it is lower
    warmup    full steps to begin with
    clock     "steps": the forecast counts the steps, as published; "times": the times that the scheduler gives them
    where     "sublayers": the output of each is forecast, as published; "stack": the residual of all blocks of a stack
              together, one feature instead of some hundred. The published form for the last block's output is close to
              it, but forecasts the input, which is known, as well
    """

    name: ClassVar[str] = "taylorseer"
    basis: ClassVar[str] = "taylor"


@dataclass(frozen=True)
class HiCache(_Forecasting):
    """HiCache (Feng et al., arXiv 2508.16984): TaylorSeer with scaled Hermite polynomials in place of powers.

    contraction  σ, which damps the forecast; the other options are TaylorSeer's
    """

    name: ClassVar[str] = "hicache"
    basis: ClassVar[str] = "hermite"

    order: int = 2
    contraction: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        good = is_number(self.contraction, 0, 1) and self.contraction > 0
        check("contraction", self.contraction, good, "above 0, up to 1")

    def _options(self) -> dict[str, Any]:
        return {"contraction": self.contraction}


@dataclass(frozen=True)
class FreqCa(HiCache):
    """FreqCa (Liu et al., arXiv 2510.08669): of what the stack adds, low frequencies are reused, high ones forecast.

    low  share of the frequencies along the tokens, from the lowest, that are reused; the other options are HiCache's

    The published code caches the stack's output, its cumulative residual; here the input, which is known in every step,
    is left out of it.
    """

    name: ClassVar[str] = "freqca"

    warmup: int = 3
    where: str = "stack"
    contraction: float = 0.71
    low: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check("low", self.low, is_number(self.low, 0, 1), "0 … 1")

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"low": self.low}


@dataclass(frozen=True)
class Newton(_Forecasting):
    """The polynomial through the last full features: TaylorSeer, but exact on polynomials of its order.

    Of first order both are the same. The options are TaylorSeer's.
    """

    name: ClassVar[str] = "newton"
    basis: ClassVar[str] = "polynomial"


@dataclass(frozen=True)
class Spectrum(_Forecasting):
    """Spectrum (Han et al., arXiv 2603.01623): Chebyshev polynomials over the run, fitted to the last full features.

    window  how many features the fit is made of; ridge: weight of its penalty; the other options are TaylorSeer's

    The published code forecasts the last block's output, so the residual of the stack is the default here. Its
    intervals grow over the run; here they stay.
    """

    name: ClassVar[str] = "spectrum"
    basis: ClassVar[str] = "chebyshev"

    order: int = 4
    warmup: int = 5
    where: str = "stack"
    window: int = 10
    ridge: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        good = isinstance(self.window, int) and self.order < self.window <= 32
        check("window", self.window, good, f"{self.order + 1} … 32 at order {self.order}")
        check("ridge", self.ridge, is_number(self.ridge, 0, 1e6) and self.ridge > 0, "a number above 0")

    def _options(self) -> dict[str, Any]:
        return {"window": self.window, "ridge": self.ridge}


def served_between(
    anatomies: Sequence[Anatomy], steps: int, schedule: Schedule, where: str | None
) -> tuple[list[Anatomy], Table]:
    """A table that serves everything between full steps, from each sub-layer's feature or from each stack's residual.

    where   "sublayers", "stack", or None: the stack's where that can be one feature, else its sub-layers'

    Returns the anatomies, with the stacks as regions where they are served, and the table (steps, passes, sites).
    Raises OptionError for where="stack" as `Anatomy.with_region` does.
    """
    anatomies = list(anatomies)
    spans = {} if where == "sublayers" else dict(anatomies[0].spans)
    if where is None:
        spans = {span: depth for span, depth in spans.items() if not anatomies[0].unfit(span)}
    for span, depth in spans.items():
        anatomies = [anatomy.with_region(span, 0, depth - 1) for anatomy in anatomies]
    stacks = {stack for span in spans for stack in span.split(TURNS)}
    fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
    for i, site in enumerate(anatomies[0].sites):
        if site.kind == REGION or site.stack not in stacks:
            fresh[~schedule.full(steps, site), :, i] = 0
    return anatomies, fresh
