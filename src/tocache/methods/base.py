"""What all methods have in common: validated options, and the table that a schedule and a budget fill."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tocache.errors import OptionError, nearest
from tocache.models.registry import family_named
from tocache.plan.anatomy import Anatomy
from tocache.plan.budget import Budget
from tocache.plan.plan import ALL, Plan
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
                    fresh[step, p, i] = budget.tokens(int(step), steps, site, anatomy.counted(site))
    return fresh


def recipe_of(anatomies: Sequence[Anatomy], steps: int) -> Recipe:
    """What was published for the model at hand."""
    return family_named(anatomies[0].family).recipe(steps)


def check_interval(interval: object, name: str = "interval") -> None:
    """Raises OptionError where `interval` is no number of steps."""
    check(name, interval, is_count(interval), "an integer >= 1")


def is_count(value: object) -> bool:
    """Whether `value` is an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object, low: float, high: float) -> bool:
    """Whether `value` is a number from `low` to `high`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_share(value: object) -> bool:
    """Whether `value` is a number above 0, up to 1."""
    return is_number(value, 0, 1) and value != 0


def check(name: str, value: object, allowed: bool, range_: str) -> None:
    """Raises OptionError, which names the option, its value and what is allowed, where `value` is not."""
    if not allowed:
        raise OptionError(f"{name}={value!r} is not allowed; allowed: {range_}")
