"""What is lost when one sub-layer in one step is served from the cache: the table that placing fresh layers needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tocache.analysis.files import Row, write_table
from tocache.analysis.forwards import Forward, answer_of, length
from tocache.analysis.places import spaced
from tocache.analysis.ranks import rank_correlation
from tocache.analysis.subject import Drawn, Subject
from tocache.errors import OptionError
from tocache.methods import Method, Uncached
from tocache.plan import ALL, Anatomy, Plan, Policy
from tocache.plan.anatomy import Site
from tocache.planning import check_count

Floats = NDArray[np.float64]
_STEPS = 8  # in which probes are made, if there are so many


@dataclass(frozen=True)
class Sensitivity:
    """The loss when a site is served, in one step alone, the feature of the step before.

    sites     where
    error     (steps, sites) ‖answer with − without‖ ÷ ‖answer without‖ of what the scheduler is given in that step; the
              mean over pictures and passes; row 0 is 0, as nothing is cached then
    probed    (steps, sites) the same at the end: root mean squared error of the final pictures' pixels in [0, 1], the
              mean over pictures; NaN where no run was made
    """

    about: dict[str, Any]
    sites: tuple[Site, ...]
    error: Floats
    probed: Floats

    @property
    def gain(self) -> Floats:
        """(steps,) final error by error of the answer: geometric means of the probes, interpolated between them."""
        steps, weights = [], []
        for step, (losses, errors) in enumerate(zip(self.probed, self.error, strict=True)):
            known = np.isfinite(losses) & (losses > 0) & (errors > 0)
            if known.any():
                steps.append(step)
                weights.append(float(np.mean(np.log(losses[known] / errors[known]))))
        if not steps:
            return np.ones(len(self.error))
        gain: Floats = np.exp(np.interp(np.arange(len(self.error)), steps, weights))
        return gain

    @property
    def estimated(self) -> Floats:
        """(steps, sites) error of the final pictures as `error` × `gain` tell it."""
        estimated: Floats = self.error * self.gain[:, None]
        return estimated

    @property
    def loss(self) -> Floats:
        """(steps, sites) error of the final pictures: probed, and estimated where it was not."""
        return np.where(np.isfinite(self.probed), self.probed, self.estimated)

    def check(self) -> tuple[float, float]:
        """How far estimates are from probes that they do not know: typical ratio, and rank correlation.

        Each step's probes are estimated without that step's own: 1.0 and 1.0 would be without fault. NaN where fewer
        than three steps have probes.
        """
        told, seen = [], []
        probed = [step for step, losses in enumerate(self.probed) if np.isfinite(losses).any()]
        if len(probed) < 3:
            return float("nan"), float("nan")
        for step in probed:
            others = self.probed.copy()
            others[step] = np.nan
            estimated = Sensitivity(self.about, self.sites, self.error, others).estimated[step]
            known = np.isfinite(self.probed[step]) & (self.probed[step] > 0) & (estimated > 0)
            told += estimated[known].tolist()
            seen += self.probed[step][known].tolist()
        ratio = np.exp(np.mean(np.abs(np.log(np.array(told) / np.array(seen)))))
        return float(ratio), rank_correlation(np.array(told), np.array(seen))

    def rows(self) -> list[Row]:
        """One row per step and site, from step 1 on."""
        loss = self.loss
        return [
            {
                "step": step,
                "site": site.name,
                "kind": site.kind,
                "group": site.group,
                "stack": site.stack,
                "block": site.block,
                "answer_error": float(f"{self.error[step, i]:.5g}"),
                "picture_error": float(f"{loss[step, i]:.5g}"),
                "measured": bool(np.isfinite(self.probed[step, i])),
            }
            for step in range(1, len(self.error))
            for i, site in enumerate(self.sites)
        ]

    def save(self, path: Path) -> None:
        """Writes the rows as CSV. Raises OptionError where that fails."""
        write_table(path, self.rows(), self.about)

    def draw(self, path: Path) -> None:
        """Writes the picture. Raises OptionError without matplotlib, or where it cannot be written."""
        from tocache.analysis.pictures.sensitivity import draw_sensitivity

        draw_sensitivity(self, path)


def sensitivity(subject: Subject, *, probes: int | None = 24) -> Sensitivity:
    """Measures what serving each site in each step does to the answer of that step, and some of them to the picture.

    The first needs a part of a forward for each; the second a run to the end, from the step before on. `probes` is how
    many of these, at even distances over steps and sites; None is all.

    Raises OptionError for a run of fewer than two steps, or `probes` below 1.
    """
    if probes is not None:
        check_count("probes", probes)
    errors, outputs, drawn = _answer_errors(subject)
    plan = drawn.plan
    if plan.steps < 2:
        raise OptionError(f"steps={plan.steps} is not allowed; allowed: at least 2")
    wanted = places_to_probe(plan.steps, len(plan.sites), probes)
    probed = np.full(errors.shape, np.nan)
    for number, (step, i) in enumerate(wanted):
        subject.tell("runs to the end", number, len(wanted))
        served = Served(step, plan.sites[i].name)
        pictures = subject.draw(served, on_forward=partial(_replay, outputs, step)).pictures
        roots = (pictures - drawn.pictures).square().flatten(1).mean(dim=1).sqrt()
        probed[step, i] = float(roots.mean())
    subject.tell("done", 1, 1)
    return Sensitivity(subject.about(drawn, "sensitivity"), plan.sites, errors, probed)


@dataclass(frozen=True)
class Served(Method):
    """One site is served from the cache in one step; all else is computed."""

    name: ClassVar[str] = "served"

    step: int
    site: str

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
        index = anatomies[0].index
        site = anatomies[0].sites[index[self.site]]
        for name in (site.name, *site.inside):
            fresh[self.step : self.step + 1, :, index[name]] = 0
        return Plan(tuple(anatomies), fresh, Policy(), str(self))


def places_to_probe(steps: int, sites: int, probes: int | None) -> list[tuple[int, int]]:
    """(step, site) of the runs to make: in up to 8 steps, and in each of them at other sites."""
    if probes is None or probes >= (steps - 1) * sites:
        return [(step, i) for step in range(1, steps) for i in range(sites)]
    chosen = [step + 1 for step in spaced(steps - 1, min(_STEPS, probes))]
    places = []
    for turn, step in enumerate(chosen):
        count = min(sites, probes // len(chosen) + (turn < probes % len(chosen)))
        shift = turn * sites / count / len(chosen)  # so that all steps together see as many sites as can be
        places += [(step, int(k * sites / count + shift) % sites) for k in range(count)]
    return places


def _answer_errors(subject: Subject) -> tuple[Floats, dict[tuple[int, int], Any], Drawn]:
    """`Sensitivity.error`, the transformer's outputs by (step, pass), and the run itself."""
    last: dict[tuple[int, str], Tensor] = {}  # (pass, site) → its feature in the step before
    now: dict[tuple[int, str], Tensor] = {}
    outputs: dict[tuple[int, int], Any] = {}
    errors: dict[tuple[int, int, int], float] = {}
    served: str | None = None
    listening = False

    def note(step: int, number: int, site: str, value: Tensor) -> Tensor | None:
        if listening:
            now[number, site] = value
            return None
        return last.get((number, site)) if site == served else None

    def measure(forward: Forward) -> Any:
        nonlocal served, listening
        step, number = forward.step, forward.number
        subject.tell("one site at a time", step, forward.steps)
        listening = True
        output = forward.make()
        listening = False
        outputs[step, number] = output
        answer = answer_of(output, forward, subject.guidance)
        for i, site in enumerate(forward.plan.sites):
            before = last.get((number, site.name))
            if before is None or before.shape != now[number, site.name].shape:
                continue
            served = site.name
            moved = length(answer_of(forward.make_from(site), forward, subject.guidance) - answer)
            errors[step, number, i] = float((moved / length(answer)).mean())
        served = None
        last.update({key: value for key, value in now.items() if key[0] == number})
        return output

    drawn = subject.draw(Uncached(), on_output=note, on_forward=measure)
    table = np.zeros((drawn.plan.steps, drawn.plan.passes, len(drawn.plan.sites)))
    for place, error in errors.items():
        table[place] = error
    return table.mean(axis=1), outputs, drawn


def _replay(outputs: dict[tuple[int, int], Any], step: int, forward: Forward) -> Any:
    """Up to two steps before `step` all is as in the uncached run: what it gave is given again."""
    known = outputs.get((forward.step, forward.number))
    return known if forward.step < step - 1 and known is not None else forward.make()
