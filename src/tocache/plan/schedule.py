"""When a site is computed in full: one boolean per step and site, decided before the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tocache.plan.anatomy import Site

Booleans = NDArray[np.bool_]


class Schedule(Protocol):
    """Which steps are full, for one site."""

    def full(self, steps: int, site: Site) -> Booleans:
        """(steps,) True where `site` computes all its tokens; the first step always is."""
        ...


@dataclass(frozen=True)
class Every:
    """Full on the first `warmup` steps and then whenever `interval` steps have passed since the last full one."""

    interval: int
    warmup: int = 1

    def full(self, steps: int, site: Site) -> Booleans:
        full = np.zeros(steps, dtype=np.bool_)
        since = 0
        for step in range(steps):
            full[step] = step < self.warmup or since == self.interval - 1
            since = 0 if full[step] else since + 1
        return full

    def as_fora(self, interval: int) -> Every:
        """The same rule as FORA uses it: one full step to begin with."""
        return Every(interval)

    def without_tokens(self) -> Every:
        """The same rule as published where no fresh tokens are computed in between: FORA's."""
        return Every(self.interval)

    def unweighted(self) -> Every:
        """The same rule with an interval that never changes, as it is."""
        return self


@dataclass(frozen=True)
class Sensitive:
    """A stretch of the countdown, as fractions of the number of steps, that gets an interval of its own."""

    start: float
    stop: float
    interval: int


@dataclass(frozen=True)
class Weighted:
    """Full where the step's number is a multiple of an interval that itself changes over the run.

    After a step in which the first block was full, at step s of S, the interval becomes
    round(interval / (1 ± weight ∓ 2·weight·s/S)), so that it shrinks over the run. The first block of each step
    still goes by the old interval and the others by the new one: where they differ, the first block alone is full,
    as in the published code. `countdown` numbers the steps S−1 … 0 (DiT) instead of 0 … S−1 (PixArt).
    """

    interval: int
    weight: float = 0.0
    countdown: bool = False
    sensitive: Sensitive | None = None

    def full(self, steps: int, site: Site) -> Booleans:
        first, others = self._tables(steps)
        return first if site.block == 0 else others

    def as_fora(self, interval: int) -> Weighted:
        """The same rule as FORA uses it: the interval never changes."""
        return replace(self.unweighted(), interval=interval)

    def without_tokens(self) -> Weighted:
        """The same rule as published where no fresh tokens are computed in between: FORA's."""
        return self.unweighted()

    def unweighted(self) -> Weighted:
        """The same rule with an interval that never changes."""
        return replace(self, weight=0.0, sensitive=None)

    def _tables(self, steps: int) -> tuple[Booleans, Booleans]:
        first = np.zeros(steps, dtype=np.bool_)
        others = np.zeros(steps, dtype=np.bool_)
        interval = self.interval
        for step in range(steps):
            number = steps - 1 - step if self.countdown else step
            first[step] = step == 0 or number % interval == 0
            if first[step]:
                interval = self._interval_after(number, steps)
            others[step] = step == 0 or number % interval == 0
        return first, others

    def _interval_after(self, number: int, steps: int) -> int:
        if self.sensitive is not None:
            start, stop = int(self.sensitive.start * steps), int(self.sensitive.stop * steps)
            if start <= number < stop:
                return self.sensitive.interval
        weight = self.weight if self.countdown else -self.weight
        # float32 and half-to-even, because that is how the published schedules were rounded
        scaled = np.float32(self.interval) / np.float32(1 + weight - 2 * weight * number / steps)
        return max(1, int(np.rint(scaled)))


@dataclass(frozen=True)
class Cycles:
    """Each kind of site has a cycle of its own, a multiple of the interval, after `warmup` full steps.

    Steps count up, and a site is full in those that its cycle divides.
    """

    interval: int
    multiples: Mapping[str, int] = field(default_factory=dict)  # by kind of site; 1 for the others
    warmup: int = 1

    def full(self, steps: int, site: Site) -> Booleans:
        step = np.arange(steps)
        cycle = self.interval * self.multiples.get(site.kind, 1)
        return np.asarray((step < max(1, self.warmup)) | (step % cycle == 0))

    def as_fora(self, interval: int) -> Cycles:
        """The same warm-up with one cycle for every kind."""
        return Cycles(interval, warmup=self.warmup)

    def without_tokens(self) -> Cycles:
        """The same rule: as published, it asks nobody for fresh tokens."""
        return self

    def unweighted(self) -> Cycles:
        """The same rule: its cycles never change."""
        return self


@dataclass(frozen=True)
class Listed:
    """Full at the steps that are named, the first one always; for placements that were searched or tuned."""

    steps: tuple[int, ...]

    def full(self, steps: int, site: Site) -> Booleans:
        full = np.zeros(steps, dtype=np.bool_)
        full[[0, *(s for s in self.steps if s < steps)]] = True
        return full


@dataclass(frozen=True)
class Spaced:
    """`count` full steps whose distances grow or shrink over the run: step number n · (i / count) ^ power of n steps.

    A power above 1 puts more of them at the beginning, below 1 at the end. Where two would fall on one step, the later
    ones move on.
    """

    count: int
    power: float = 1.0
    warmup: int = 1  # the first ones follow each other, as forecasts need them to

    def full(self, steps: int, site: Site) -> Booleans:
        full = np.zeros(steps, dtype=np.bool_)
        full[: max(1, self.warmup)] = True
        rest = self.count - max(1, self.warmup)
        free, begin = steps - max(1, self.warmup), max(1, self.warmup)
        last = begin - 1
        for i in range(1, rest + 1):
            wish = begin - 1 + round(free * (i / (rest + 1)) ** self.power)
            last = max(last + 1, wish)
            if last < steps:
                full[last] = True
        return full
