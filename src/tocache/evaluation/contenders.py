"""What takes part in a benchmark: methods of ours, swept, each setting a change of the pipeline for the time being."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from tocache.api import enabled
from tocache.errors import OptionError, PlanError
from tocache.methods import METHODS, Method, Planned
from tocache.methods.spec import make_method, parse_method, split_outside_brackets
from tocache.plan import Anatomy, Plan, flops_planned, flops_scores, flops_uncached, load_plan

TUNED = "tuned"
"""The curve of the plans that are given as files."""
NEW = ("early", TUNED)
"""Methods that no paper has."""
REFERENCE, OURS, STEPS, PEER = "uncached", "ours", "fewer steps", "peer"

Use = Callable[[Any], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Contender:
    """One setting of one method: a point of the curve named `curve`.

    use        changes a pipeline for the length of a with-block
    arguments  of the pipeline's call that are not the reference's
    ratio      FLOPs uncached ÷ FLOPs as they are known before any run; None where only a run can tell
    adaptive   whether the pictures decide what is computed
    always     whether it is measured wherever it lies, as what its makers recommend
    """

    curve: str
    setting: str
    kind: str
    use: Use = field(default=lambda pipe: nullcontext())
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    adaptive: bool = False
    always: bool = False


def is_new(curve: str) -> bool:
    """Whether the method of a curve, whose options follow a colon, is one that no paper has."""
    return curve.partition(":")[0] in NEW


# How a method is swept where it is not by its `interval` alone: options, from mild to strong, by the number of steps.
SWEEPS: dict[str, Callable[[int], Sequence[Mapping[str, Any]]]] = {
    # the published rows, then longer cycles over the whole run
    "pab": lambda steps: [
        *({"spatial": k, "temporal": k + 2, "cross": k + 4} for k in (2, 3, 5, 7)),
        *({"spatial": k, "temporal": k, "cross": k, "begin": 1000.0, "end": 0.0} for k in (3, 5, steps)),
    ],
    "tgate": lambda steps: [
        {"gate": gate, "interval": interval}
        for gate, interval in ((0.6, 1), (0.4, 1), (0.4, 2), (0.4, 3), (0.2, 3), (0.2, 5), (0.0, 1))
    ],
}


def parse_methods(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(curve, method, fixed options) of each entry of a list such as `toca,fora,toca:share=step:scores={"norm":1}`.

    `all` stands for every method but `none` and those that one tunes for a model. Values are JSON, or plain words.
    Plan files (*.json) are one curve together, `tuned`. Raises UnknownNameError, OptionError and PlanFileError.
    """
    found: list[tuple[str, str, dict[str, Any]]] = []
    files: dict[str, Plan] = {}
    for entry in split_outside_brackets(text, ","):
        if entry == "all":
            found += [(known, known, {}) for known in METHODS if known not in ("none", "placed")]
            continue
        if entry.endswith(".json"):
            files[Path(entry).stem] = load_plan(entry)
            continue
        name, given = parse_method(entry, METHODS)
        make_method(name, given, METHODS)
        found.append((entry, name, given))
    if files:
        found.append((TUNED, TUNED, {"plans": files}))
    return list({curve: (curve, name, given) for curve, name, given in found}.values())


def sweep(
    curve: str, name: str, given: Mapping[str, Any], anatomies: Sequence[Anatomy], steps: int, *, uncached: int | None
) -> list[Contender]:
    """Every setting of a method that can be swept, with the FLOPs ratio that its plan promises; mild ones first.

    given     options that stay as they are; what they name is not swept
    uncached  FLOPs of the run without a cache as they were counted, in which there is more than a plan costs
              (embeddings, modulation, scores); None: the plan's own

    A setting that cannot be on this model is left out. Raises the error of the mildest where none can.
    """
    swept, errors = [], []
    for setting, make in _settings(name, given, steps):
        try:
            method = make()
            plan = method.plan(anatomies, steps)
        except (OptionError, PlanError) as error:
            errors.append(error)
            continue
        whole = flops_uncached(plan)
        saved = whole - flops_planned(plan) - (flops_scores(plan) if uncached else 0)
        ratio = (uncached or whole) / max(1, (uncached or whole) - saved)
        # plans that somebody names are measured wherever they lie
        swept.append(replace(contender_of(curve, method, ratio, setting), always=name == TUNED))
    if not swept and errors:
        raise errors[0]
    return sorted(swept, key=lambda one: one.ratio or 0.0)


def contender_of(curve: str, method: Method, ratio: float | None, setting: str = "") -> Contender:
    """A method at one setting, called `setting` where the curve's name says the rest."""
    return Contender(curve, setting or str(method), OURS, lambda pipe: enabled(pipe, method), ratio=ratio)


def _settings(name: str, given: Mapping[str, Any], steps: int) -> Iterator[tuple[str, Callable[[], Method]]]:
    """What each setting is called, and what makes its method."""
    if name == TUNED:
        yield from ((stem, partial(Planned, plan)) for stem, plan in given["plans"].items())
        return
    known = [f.name for f in fields(METHODS[name])]  # type: ignore[arg-type]
    if name in SWEEPS:
        options = SWEEPS[name](steps)
    elif "interval" in known:
        options = [{"interval": n} for n in range(2, steps + 1)]
    else:
        options = [{}]
    seen: set[str] = set()
    for one in options:
        left = {option: value for option, value in one.items() if option not in given}
        if str(left) not in seen:
            seen.add(str(left))
            yield ", ".join(f"{k}={v}" for k, v in left.items()), partial(METHODS[name], **{**left, **given})
