"""What steps take on this machine: measured, and as a function of the tokens computed.

Methods draw one picture in turns with the uncached model, and every step is timed. A machine that is busy changes its
pace within seconds, so only neighbours are compared: reuse and partial steps with the full steps of the same run, and
these with the uncached run just before. A partial step is a line in the number of tokens that it computes:
a + b · tokens, least squares over the shares of tokens that were timed; what it takes to choose them is in a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from tocache.machine import device_name
from tocache.methods import Method, Placed
from tocache.plan import Plan
from tocache.tuning.draws import Subject
from tocache.tuning.memo import Memo

ROUNDS = 3
FULL, PARTIAL, REUSE = "full", "partial", "reuse"
_RATIOS = (0.1, 0.3, 0.6)  # at which partial steps are timed


@dataclass(frozen=True)
class StepCosts:
    """Of one way to fill the steps between full ones, as shares of an uncached step.

    constant  by kind of step; of partial steps the mean where the line has no slope to know
    line      (a, b) of a partial step that computes so many tokens, summed over its sites and passes; None without any
    """

    constant: dict[str, float]
    line: tuple[float, float] | None = None

    def of(self, kind: str, tokens: int) -> float:
        """The share of a step of that kind."""
        if kind == PARTIAL and self.line is not None:
            return self.line[0] + self.line[1] * tokens
        return self.constant.get(kind, 1.0)


@dataclass
class Clock:
    """What runs take, for methods that were calibrated.

    uncached  seconds of the denoising loop of one picture without a cache
    costs     by `way_of` a method
    errors    of each timed run: |predicted ÷ measured − 1|
    """

    subject: Subject
    memo: Memo
    uncached: float = 0.0
    costs: dict[str, StepCosts] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)

    def calibrate(self, methods: Sequence[Method]) -> None:
        """Times one method of each way that is not known yet, `ROUNDS` times in turns with the uncached model."""
        new: dict[str, list[Method]] = {}
        for method in methods:
            way = way_of(method)
            if way not in self.costs and way not in new:
                new[way] = _variants(method, self.subject.steps)
        if not new:
            return
        place = device_name(self.subject.pipe.device)
        rounds: dict[str, list[dict[str, list[float]]]] = {way: [] for way in new}
        for number in range(ROUNDS):
            for way, variants in new.items():
                rounds[way].append(self._round(f"seconds/{place}/{number}/{way}", variants))
        if not self.uncached:
            self.uncached = float(np.median([sum(one["uncached"]) for each in rounds.values() for one in each]))
        for way, variants in new.items():
            self.costs[way] = self._fit(rounds[way], variants)

    def seconds(self, method: Method) -> float:
        """Of the denoising loop of one picture, as predicted; calibrates where that is due."""
        self.calibrate([method])
        return self.uncached * self._share(self.subject.plan(method), self.costs[way_of(method)])

    @property
    def error(self) -> float:
        """The median over all timed runs of how far the prediction is off, as a share."""
        return float(np.median(self.errors)) if self.errors else 0.0

    def _round(self, name: str, variants: Sequence[Method]) -> dict[str, list[float]]:
        """Seconds of each step: of the uncached model, then of every variant."""

        def time(method: Method | None) -> list[float]:
            return list(self.subject.seconds(method).steps)

        found = {"uncached": self.memo.value(f"{name}/uncached", partial(time, None))}
        for method in variants:
            found[str(method)] = self.memo.value(f"{name}/{method}", partial(time, method))
        return found

    def _fit(self, rounds: Sequence[dict[str, list[float]]], variants: Sequence[Method]) -> StepCosts:
        plans = [(str(method), self.subject.plan(method)) for method in variants]
        units: list[float] = []  # a full step ÷ an uncached one
        shares: dict[str, list[float]] = {}  # by kind, ÷ a full step of the same run
        points: list[tuple[int, float]] = []  # (tokens, share) of partial steps
        for one in rounds:
            usual = float(np.median(one["uncached"][1:]))
            for name, plan in plans:
                timed = _timed_steps(plan, one[name])
                full = [seconds for kind, _, seconds in timed if kind == FULL]
                unit = float(np.median(full)) if full else usual
                units.append(unit / usual)
                for kind, tokens, seconds in timed:
                    shares.setdefault(kind, []).append(seconds / unit)
                    if kind == PARTIAL:
                        points.append((tokens, seconds / unit))
        of_full = float(np.median(units))
        line = _line([(tokens, of_full * share) for tokens, share in points])
        costs = StepCosts({kind: of_full * float(np.median(each)) for kind, each in shares.items()}, line)
        for one in rounds:
            for name, plan in plans:
                self.errors.append(abs(self._share(plan, costs) * sum(one["uncached"]) / sum(one[name]) - 1))
        return costs

    @staticmethod
    def _share(plan: Plan, costs: StepCosts) -> float:
        """The run's seconds ÷ those of an uncached run."""
        kinds = [(plan.kind_of_step(step), _tokens(plan, step)) for step in range(plan.steps)]
        return sum(costs.of(kind, tokens) for kind, tokens in kinds) / plan.steps


def measured_speedups(subject: Subject, memo: Memo, methods: Sequence[Method]) -> list[float]:
    """Seconds of the uncached loop ÷ those of each method's drawn just after it: one picture, the median of rounds."""
    place = device_name(subject.pipe.device)

    def ratio(method: Method) -> float:
        uncached, cached = (sum(subject.seconds(one).steps) for one in (None, method))
        return uncached / cached

    rounds = [
        [memo.value(f"in turns/{place}/{number}/{method}", partial(ratio, method)) for method in methods]
        for number in range(ROUNDS)
    ]
    return [float(np.median(each)) for each in zip(*rounds, strict=True)]


def way_of(method: Method) -> str:
    """What decides how long a step of each kind takes: the method without what only decides how many there are."""
    if isinstance(method, Placed):
        plain = replace(method, full=(0,), of=2, partial=(1,) if method.partial else (), fresh_ratio=0.1)
        return str(plain if method.partial else replace(plain, scores=None, kinds=None))
    options = {f.name for f in fields(method)}  # type: ignore[arg-type]
    return str(replace(method, interval=2)) if "interval" in options else str(method)  # type: ignore[type-var]


def _variants(method: Method, steps: int) -> list[Method]:
    """The settings in which a way is timed: kinds of steps in turns, and where tokens are chosen several shares."""
    if isinstance(method, Placed) and method.partial:
        full, partial = tuple(range(0, steps, 3)), tuple(range(1, steps, 3))
        return [replace(method, full=full, partial=partial, of=steps, fresh_ratio=ratio) for ratio in _RATIOS]
    if isinstance(method, Placed):
        return [replace(method, full=tuple(range(0, steps, 2)), of=steps)]
    options: Any = {"interval": 3} if "interval" in {f.name for f in fields(method)} else {}  # type: ignore[arg-type]
    return [replace(method, **options)]  # type: ignore[type-var]


def _timed_steps(plan: Plan, seconds: Sequence[float]) -> list[tuple[str, int, float]]:
    """(kind, tokens, seconds) of each step but the first, which also opens the run."""
    return [(plan.kind_of_step(s), _tokens(plan, s), seconds[s]) for s in range(1, plan.steps)]


def _tokens(plan: Plan, step: int) -> int:
    """How many single tokens a step computes, summed over sites and passes."""
    return int(np.maximum(plan.amounts[step], 0).sum())


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float] | None:
    """Least squares through the medians at each number of tokens; a slope below 0 is noise, and becomes 0."""
    if not points:
        return None
    tokens = sorted({count for count, _ in points})
    shares = [float(np.median([share for count, share in points if count == one])) for one in tokens]
    if len(tokens) == 1:
        return shares[0], 0.0
    slope, start = np.polyfit(tokens, shares, 1)
    return (float(start), float(slope)) if slope > 0 else (float(np.mean(shares)), 0.0)
