"""Run the transformers of diffusers' own model tests with the cache: host_tests.py CHECKOUT [--write] [WORD …].

The tests describe a small model of each class and inputs for it. Each runs nine steps on the same input: as it is,
with a plan that computes everything (which must give the same bits), and under FORA and ToCa. As nothing changes from
step to step, what they serve must be what would have been computed. WORDs choose among the test files.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from models_page import PAGE, by_stack, table, written

import tocache
from tocache.errors import UnsupportedModelError
from tocache.models.recognised import Recognised
from tocache.models.registry import family_of

METHODS = (tocache.FORA(3), tocache.ToCa(3, 0.3))
STEPS = 9
COLUMNS = ("class", "computed token by token", "computed whole or not at all", "all-fresh", "served")


@dataclass
class Outcome:
    """What became of one class: `listed` by a family or recognised, its sites, or why it does not run."""

    name: str
    family: str = ""
    sites: tuple[str, str] = ("", "")
    same_bits: bool = False  # an all-fresh plan gives what the plain model gives
    off: float = 0.0  # the largest error of what was served, as a share of the largest number of the output
    problem: str = ""


def main() -> None:
    checkout, *words = sys.argv[1:]
    write = "--write" in words
    sys.path.insert(0, checkout)
    warnings.simplefilter("ignore")
    outcomes = list(_outcomes(Path(checkout), [word for word in words if word != "--write"]))
    for outcome in outcomes:
        bits = "equal" if outcome.same_bits else "DIFFERS"
        verdict = outcome.problem or f"all-fresh {bits}, served off {outcome.off:.1e}"
        print(f"{outcome.name:42} {outcome.family or '-':14} {verdict}")
    if write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(written(page, {"recognised": _table(outcomes)}), encoding="utf-8")
    bad = [outcome.name for outcome in outcomes if outcome.family and (not outcome.same_bits or outcome.off > 1e-4)]
    sys.exit(f"not as they should be: {', '.join(bad)}" if bad else 0)


def _outcomes(checkout: Path, words: list[str]) -> Iterator[Outcome]:
    seen: set[str] = set()
    for file in sorted((checkout / "tests" / "models" / "transformers").glob("test_models_*.py")):
        if words and not any(word in file.name for word in words):
            continue
        try:
            module = importlib.import_module(f"tests.models.transformers.{file.stem}")
        except (ImportError, RuntimeError) as error:  # of a class that this diffusers does not have yet, or any more
            print(f"{file.name}: not imported: {error}", file=sys.stderr)
            continue
        for config in vars(module).values():
            if not _describes_a_model(config, module.__name__):
                continue
            described = config()
            name = described.model_class.__name__
            if name not in seen:
                seen.add(name)
                yield _run(name, described)


def _describes_a_model(thing: Any, module: str) -> bool:
    asked = ("get_init_dict", "get_dummy_inputs")
    return inspect.isclass(thing) and thing.__module__ == module and all(hasattr(thing, name) for name in asked)


def _run(name: str, described: Any) -> Outcome:
    outcome = Outcome(name)
    try:
        torch.manual_seed(0)
        model = described.model_class(**described.get_init_dict()).eval()
        arguments = described.get_dummy_inputs()
        plain = _last(model, arguments, None)
    except Exception as error:  # whatever another project's tests run into here is no finding about the cache
        outcome.problem = f"does not run here without a cache: {type(error).__name__}: {_short(error)}"
        return outcome
    try:
        family = family_of(model)
        outcome.same_bits = torch.equal(_last(model, arguments, tocache.Uncached()), plain)
        scale = float(plain.abs().max()) or 1.0
        for method in METHODS:
            outcome.off = max(outcome.off, float((_last(model, arguments, method) - plain).abs().max()) / scale)
        report = tocache.report(model)
        outcome.sites = tuple(by_stack([s for s in report.plan.sites if s.rows is rows]) for rows in (True, False))
        outcome.family = family.name
    except UnsupportedModelError as error:
        outcome.problem = f"refused: {_short(error)}"
    except Exception as error:  # the other classes are to be seen, too
        outcome.family, outcome.problem = "fails", f"{type(error).__name__}: {_short(error)}"
    return outcome


def _last(model: Any, arguments: dict[str, Any], method: Any) -> torch.Tensor:
    """The output of the last of the steps under `method`; of one forward where that is None."""
    with torch.no_grad():
        if method is None:
            return _tensor(model(**arguments))
        tocache.enable(model, method)
        with tocache.run(model, timesteps=STEPS, cfg=None) as run:
            for _ in range(STEPS):
                output = _tensor(model(**arguments))
                run.step()
        assert tocache.report(model).overruled == 0
        return output


def _tensor(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


def _short(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error))[:160]


def _table(outcomes: list[Outcome]) -> str:
    rows = [
        (f"`{o.name}`", *o.sites, "bit-equal" if o.same_bits else "differs", f"{o.off:.0e} off" if o.off else "exact")
        for o in outcomes
        if o.family == Recognised.name
    ]
    return table(COLUMNS, iter(rows))


if __name__ == "__main__":
    main()
