"""`tune`: from a model, some prompts and a wished speed-up to the plan that harms the pictures least."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tocache.engine.intercept import plain_class
from tocache.errors import OptionError
from tocache.evaluation.prompts import Task, tasks_for
from tocache.generation import load_pipeline
from tocache.methods import Placed, Uncached
from tocache.plan import Plan, flops_planned, flops_uncached
from tocache.plan.schedule import Spaced
from tocache.planning import check_count, check_seed
from tocache.tuning.draws import Draws
from tocache.tuning.memo import Memo
from tocache.tuning.observe import Answers, drop
from tocache.tuning.place import place, reuse_costs, spread_weights
from tocache.tuning.refine import Steps, refine

PROBES = 10
"""Steps whose weight is measured, at most; those of the others lie between."""
HELD_OUT = 1 / 3
"""Share of the prompts that no choice looks at: on these the result is reported."""
_SEED = 10_000  # not the benchmark's, whose pictures must be new to a tuned plan

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tuned:
    """What was found.

    method    the method, and `plan` what it means for the pictures it was tuned on
    speedup   FLOPs uncached ÷ FLOPs planned
    weights   (steps,) how much a squared error of the model in each step costs in the picture
    losses    of the held-out pictures, by method: `tuned`, and `even` with as many full steps at even distances
    measured  settings that were tried
    pictures  tuned on, and held out
    """

    method: Placed
    plan: Plan
    speedup: float
    weights: tuple[float, ...]
    losses: dict[str, dict[str, float]]
    measured: int
    pictures: tuple[int, int]


def tune(
    model: str | Path,
    speedup: float = 3.0,
    *,
    prompts: int | Path = 24,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int = 8,
    trials: int = 24,
    seed: int = _SEED,
    device: str | None = None,
    dtype: str | None = None,
    memo: Path | None = None,
    tell: Tell = lambda phase, done, total: None,
) -> Tuned:
    """Finds which steps to compute in full, for the least loss at a FLOPs ratio of at least `speedup`.

    Three things are measured: how the model's answers resemble each other from step to step, in uncached runs; how
    much each step matters, by reusing its neighbour in that step alone; and the loss of whole settings, which starts
    from the best of the first two (`tuning.place`) and goes on as a local search.

    prompts  how many of a demo's own, or a file with one in each line; a third of them is held out for the report
    trials   settings that the search may try, each of which draws all other prompts once
    memo     a file that takes what was measured; a tuning that was stopped goes on from it

    Raises OptionError and its kin for what cannot be asked.
    """
    _check(speedup, prompts, batch, trials)
    pipe = load_pipeline(model, device=device, dtype=dtype)
    tasks = tasks_for(pipe, model, prompts, check_seed(seed))
    if len(tasks) < 2:
        raise OptionError(f"prompts={prompts!r} is not allowed; allowed: at least 2, one of which is held out")
    held_out = max(1, round(HELD_OUT * len(tasks)))
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "size": {}}
    counter = _Counter(tell)
    draws = Draws(pipe, tasks[held_out:], batch, options, counter)
    counter.phase = "looking at the model"
    draws.look(Uncached())
    count = _full_steps(draws, speedup)
    about = {"model": str(model), "transformer": plain_class(pipe.transformer).__name__, "steps": draws.steps}
    about |= {"scheduler": plain_class(pipe.scheduler).__name__, "guidance": guidance, "tasks": _digest(tasks)}
    about["dtype"] = str(pipe.transformer.dtype).removeprefix("torch.")
    kept = Memo(memo, about)
    counter.expect(len(draws.batches) * (1 + min(PROBES, draws.steps - 1) + trials))
    weights, gram = _weigh(draws, kept, counter)
    counter.phase = "searching"
    full = _search(draws, kept, gram, weights, count, trials)
    method = Placed(full, draws.steps)
    counter.phase = "held-out prompts"
    others = Draws(pipe, tasks[:held_out], batch, options, counter)
    others.draw_references(Answers())
    losses = {"tuned": others.figures(method), "even": others.figures(Placed(_even(draws, count), draws.steps))}
    plan = draws.plan_of(method)
    tell("done", 1, 1)
    pictures = (len(tasks) - held_out, held_out)
    return Tuned(method, plan, _ratio(plan), tuple(weights.tolist()), losses, len(kept.losses), pictures)


class _Counter:
    """Tells of each batch that is drawn."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.phase, self.done, self.total = tell, "", 0, 1

    def expect(self, total: int) -> None:
        self.total = self.done + total

    def __call__(self) -> None:
        self.total = max(self.total, self.done + 1)
        self.tell(self.phase, self.done, self.total)
        self.done += 1


def _weigh(draws: Draws, kept: Memo, counter: _Counter) -> tuple[Any, Any]:
    """The weight of each step, and the inner products of the model's answers."""
    counter.phase = "uncached"
    answers = Answers()
    draws.draw_references(answers)
    assert answers.gram is not None
    gram = answers.gram
    counter.phase = "weighing the steps"
    probed = sorted(set(np.linspace(1, draws.steps - 1, min(PROBES, draws.steps - 1)).round().astype(int).tolist()))
    measured = {}
    for step in probed:
        full = tuple(s for s in range(draws.steps) if s != step)
        measured[step] = _loss(draws, kept, full) / max(drop(gram, step), 1e-30)
    return spread_weights(measured, draws.steps), gram


def _search(draws: Draws, kept: Memo, gram: Any, weights: Any, count: int, trials: int) -> Steps:
    starts = {place(reuse_costs(gram, weights, coherent=coherent), count)[0] for coherent in (True, False)}
    starts.add(_even(draws, count))
    best = min(sorted(starts), key=lambda full: _loss(draws, kept, full))
    return refine(best, draws.steps, lambda full: _loss(draws, kept, full), max(1, trials - len(starts) + 1))


def _loss(draws: Draws, kept: Memo, full: Steps) -> float:
    return kept.loss(full, lambda steps: draws.loss(Placed(steps, draws.steps)))


def _even(draws: Draws, count: int) -> Steps:
    """As many full steps at even distances."""
    full = Spaced(count).full(draws.steps, draws.anatomies[0].sites[0])
    return tuple(int(step) for step in np.flatnonzero(full))


def _full_steps(draws: Draws, speedup: float) -> int:
    """How many steps can be full at that ratio. Raises OptionError where one is too many."""
    ratio = 1.0
    for count in range(draws.steps - 1, 0, -1):
        ratio = _ratio(draws.plan_of(Placed(tuple(range(count)), draws.steps)))
        if ratio >= speedup:
            return count
    raise OptionError(f"speedup={speedup:g} is not allowed; allowed with {draws.steps} steps: up to {ratio:.3g}")


def _ratio(plan: Plan) -> float:
    return flops_uncached(plan) / flops_planned(plan)


def _digest(tasks: Sequence[Task]) -> str:
    """Of prompts and seeds."""
    text = json.dumps([[task.prompt, task.seed] for task in tasks])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(speedup: float, prompts: int | Path, batch: int, trials: int) -> None:
    if not 1 < speedup < float("inf"):
        raise OptionError(f"speedup={speedup!r} is not allowed; allowed: a number above 1")
    for name, value in (("batch", batch), ("trials", trials), *([("prompts", prompts)] * isinstance(prompts, int))):
        check_count(name, value)
