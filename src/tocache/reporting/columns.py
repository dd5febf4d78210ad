"""What stands beside each other in a comparison: a method, or none, with what it drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tocache.errors import OptionError
from tocache.evaluation.clock import Seconds
from tocache.evaluation.scores import as_figure
from tocache.generation.result import Frames, Freshness
from tocache.methods import METHODS, Method, Planned
from tocache.methods.spec import make_method, parse_method
from tocache.plan import Plan, load_plan
from tocache.planning import usual_steps
from tocache.presets import PRESETS, preset, preset_names
from tocache.reports import Report

UNCACHED = "without cache"


@dataclass(frozen=True)
class Drawn:
    """One picture or video.

    fresh    (steps, *grid) share of the layers in which each token was computed; None where tokens are no grid
    scores   by metric (`evaluation.scores`), to the uncached one where it is a distance
    """

    frames: Frames
    seconds: Seconds
    fresh: Freshness | None
    scores: Mapping[str, float]


@dataclass
class Column:
    """A method, or none, with all that it drew: one entry per prompt."""

    label: str
    method: Method | None
    drawn: list[Drawn] = field(default_factory=list)
    report: Report | None = None  # of its first run; None without a cache
    device_bytes: int | None = None  # at most, as the device's allocator counts; None on CPUs

    @property
    def plan(self) -> Plan | None:
        """What was to be computed; None without a cache."""
        return None if self.report is None else self.report.plan

    def median_seconds(self, part: str = "total") -> float | None:
        """Of a call (`total`) or of the denoising loop in it (`loop`), over the prompts."""
        values = [value for one in self.drawn if (value := getattr(one.seconds, part)) is not None]
        return float(np.median(values)) if values else None

    def figure(self, metric: str) -> dict[str, float] | None:
        """Mean over the prompts, and its 95% interval by bootstrap; None where it was not measured."""
        return as_figure([one.scores[metric] for one in self.drawn if metric in one.scores])


def method_named(text: str, family: str) -> Method:
    """The method of a plan file (*.json), of a preset of that family, or of a name with options.

    Raises PlanFileError, UnknownNameError and OptionError.
    """
    if text.endswith(".json"):
        return Planned(load_plan(text))
    if text in preset_names():
        return preset(text, family)
    return make_method(*parse_method(text, METHODS), METHODS)


def check_name(text: str) -> None:
    """Raises what `method_named` raises for any family."""
    method_named(text, next((known.family for known in PRESETS if known.name == text), ""))


def columns_of(names: Sequence[str], family: str) -> list[Column]:
    """One per method; each but once."""
    return [Column(name, method_named(name, family)) for name in dict.fromkeys(names)]


def steps_of(columns: Sequence[Column]) -> int | None:
    """The steps that the presets and plans among the columns were made for. Raises OptionError where they differ."""
    counts: dict[int, str] = {}
    for column in columns[1:]:
        method = column.label if column.label in preset_names() else column.method
        if (count := usual_steps(method)) is not None:
            counts[count] = column.label
    if len(counts) > 1:
        made = ", ".join(f"{label} for {count}" for count, label in counts.items())
        raise OptionError(f"the methods were made for different numbers of steps ({made}); give steps")
    return next(iter(counts), None)
