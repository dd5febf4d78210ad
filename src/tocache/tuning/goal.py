"""What is asked of a tuning, and what a plan costs in that currency."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol

from tocache.errors import OptionError
from tocache.methods import Method, Uncached
from tocache.plan import flops_planned, flops_uncached
from tocache.tuning.draws import Subject
from tocache.tuning.seconds import Clock

SECONDS, FLOPS = "seconds", "flops"
CURRENCIES = (SECONDS, FLOPS)
_UNITS = {"ms": 1e-3, "s": 1.0, "": 1.0}


@dataclass(frozen=True)
class Goal:
    """One of three: the least loss at a speed-up or within seconds, or the greatest speed at a loss.

    speedup   cost of the uncached run ÷ cost of the plan, at least
    latency   seconds of the denoising loop of one picture, at most
    max_loss  of the pictures that are tuned on, in the measure of the tuning, at most
    by        what costs are counted in: "seconds", as calibrated on this machine, or "flops"

    Raises OptionError for more or less than one, and for what cannot be.
    """

    speedup: float | None = None
    latency: float | None = None
    max_loss: float | None = None
    by: str = SECONDS

    def __post_init__(self) -> None:
        given = [name for name in ("speedup", "latency", "max_loss") if getattr(self, name) is not None]
        if len(given) != 1:
            raise OptionError(
                f"{' and '.join(given) or 'nothing'} is asked for; give one of speedup, latency, max_loss"
            )
        if self.by not in CURRENCIES:
            raise OptionError(f"by={self.by!r} is not allowed; allowed: {' | '.join(CURRENCIES)}")
        if self.latency is not None and self.by != SECONDS:
            raise OptionError(f"by={self.by!r} is not allowed with latency, which is seconds")
        low = 1.0 if given == ["speedup"] else 0.0
        value = getattr(self, given[0])
        if not (isfinite(value) and value > low):
            raise OptionError(f"{given[0]}={value!r} is not allowed; allowed: a number above {low:g}")

    def __str__(self) -> str:
        if self.latency is not None:
            return f"at most {self.latency:.3g} s"
        if self.max_loss is not None:
            return f"the fewest {self.by} at a loss of at most {self.max_loss:g}"
        return f"{self.speedup:g}× fewer {self.by}"

    def limit(self, uncached: float) -> float:
        """The greatest cost that is allowed, where the uncached run costs `uncached`."""
        if self.speedup is not None:
            return uncached / self.speedup
        return inf if self.latency is None else self.latency


def parse_seconds(text: str) -> float:
    """2, 2.0s or 800ms as seconds. Raises OptionError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)\s*", text)
    if found is None:
        raise OptionError(f"latency={text!r} is not allowed; allowed: seconds or milliseconds, as in 2.0s or 800ms")
    return float(found[1]) * _UNITS[found[2]]


class Price(Protocol):
    """What a plan costs."""

    @property
    def uncached(self) -> float: ...

    def cost(self, method: Method) -> float: ...


@dataclass
class FlopsPrice:
    """FLOPs of one picture."""

    subject: Subject

    @property
    def uncached(self) -> float:
        return float(flops_uncached(self.subject.plan(Uncached())))

    def cost(self, method: Method) -> float:
        return float(flops_planned(self.subject.plan(method)))


@dataclass
class SecondsPrice:
    """Seconds of the denoising loop of one picture, as the clock predicts them."""

    clock: Clock

    @property
    def uncached(self) -> float:
        return self.clock.uncached

    def cost(self, method: Method) -> float:
        return self.clock.seconds(method)
