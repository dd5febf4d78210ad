"""What was found beside presets and published methods, on pictures that no choice has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tocache.errors import OptionError, PlanError
from tocache.methods import METHODS, Method, Placed
from tocache.presets import presets_of
from tocache.tuning.draws import Draws, Subject
from tocache.tuning.goal import Price
from tocache.tuning.losses import summary
from tocache.tuning.search import even
from tocache.tuning.seconds import Clock, measured_speedups

PUBLISHED = ("fora", "toca", "duca", "taylorseer", "hicache", "freqca")
"""Methods that are compared, each at the interval that comes nearest to the price of what was found, from below."""


@dataclass(frozen=True)
class Compared:
    """One method on the held-out pictures.

    name      "tuned", "even", a preset or a method; setting: the method as it ran
    ratio     cost of the uncached run ÷ its own, in the tuning's currency, as predicted
    measured  seconds of the uncached loop ÷ those of its own, in turns; None where costs are FLOPs
    figures   `loss`, `mse` and, where pictures are large enough, `1 - ssim`, over the pictures
    """

    name: str
    setting: str
    ratio: float
    measured: float | None
    figures: dict[str, float]


def compare(
    tuned: Placed, subject: Subject, held_out: Draws, price: Price, *, published: Sequence[str], clock: Clock | None
) -> tuple[Compared, ...]:
    """`tuned` first, then reuse at even distances, presets, and published methods; timed where there is a clock."""
    if clock is not None:
        clock.calibrate([method for method in (METHODS[name]() for name in published) if _runs(method, subject)])
    chosen = dict(_distinct(_contenders(tuned, subject, price, published)))
    figures = {name: summary(held_out.measure, held_out.figures(method)) for name, method in chosen.items()}
    speedups: Sequence[float | None] = [None] * len(chosen)
    if clock is not None:
        speedups = measured_speedups(subject, held_out.memo, list(chosen.values()))
    return tuple(
        Compared(name, str(method), price.uncached / price.cost(method), measured, figures[name])
        for (name, method), measured in zip(chosen.items(), speedups, strict=True)
    )


def _contenders(
    tuned: Placed, subject: Subject, price: Price, published: Sequence[str]
) -> Iterator[tuple[str, Method]]:
    yield "tuned", tuned
    limit = price.cost(tuned)
    reuse = [Placed(even(count, subject.steps), subject.steps) for count in range(1, subject.steps + 1)]
    yield "even", max((one for one in reuse if price.cost(one) <= limit), key=price.cost, default=reuse[0])
    family = subject.anatomies[0].family
    for name, preset in presets_of(family).items():
        if _runs(preset.method, subject):
            yield name, preset.method
    for name in published:
        method = METHODS[name]()
        if _runs(method, subject):
            yield name, _at_price(method, subject, price, limit)


def _at_price(method: Any, subject: Subject, price: Price, limit: float) -> Method:
    """`method` at the least interval that costs at most `limit`; at the greatest where none does."""
    swept: list[Method] = [replace(method, interval=interval) for interval in range(2, subject.steps + 1)]
    return next((one for one in swept if price.cost(one) <= limit), swept[-1])


def _runs(method: Method, subject: Subject) -> bool:
    """Whether the model at hand can take it."""
    try:
        subject.plan(method)
    except (OptionError, PlanError):
        return False
    return True


def _distinct(contenders: Iterator[tuple[str, Method]]) -> Iterator[tuple[str, Method]]:
    """Without those that are the same as one before."""
    seen = set()
    for name, method in contenders:
        if str(method) not in seen:
            seen.add(str(method))
            yield name, method
