"""`tune`: from a model, some prompts and a goal to the plan that harms the pictures least, or costs least."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from tocache.engine.intercept import plain_class
from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.prompts import Task, tasks_for
from tocache.generation import fingerprint, load_pipeline
from tocache.machine import about_machine, installed_version
from tocache.methods import METHODS, Placed
from tocache.plan import Plan
from tocache.planning import check_count, check_seed, is_demo
from tocache.tuning.between import Between, betweens
from tocache.tuning.compare import PUBLISHED, Compared, compare
from tocache.tuning.draws import Draws, Subject
from tocache.tuning.goal import SECONDS, FlopsPrice, Goal, Price, SecondsPrice
from tocache.tuning.losses import MEANINGS, measure_for
from tocache.tuning.memo import Memo
from tocache.tuning.place import Floats, served_error, spread_weights
from tocache.tuning.refine import Spots
from tocache.tuning.search import Candidate, Search
from tocache.tuning.seconds import Clock

PROBES = 10
"""Steps whose weight is measured, at most; those of the others lie between."""
HELD_OUT = 1 / 3
"""Share of the prompts that no choice looks at: on these the result is reported."""
_SEED = 10_000  # not the benchmark's, whose pictures must be new to a tuned plan


@dataclass(frozen=True)
class Progress:
    """How far a tuning is: calls of the pipeline behind and in all, and what is the best so far, in words."""

    phase: str
    done: int
    total: int
    best: str = ""


@dataclass(frozen=True)
class Tuned:
    """What was found.

    method    the method, and `plan` what it means for one picture, with where it came from
    between   what happens between full steps, in words
    ratio     cost of the uncached run ÷ cost of the plan, in what the goal counts
    measure   of losses: "judge" or "pixels"; loss: of the pictures that were tuned on
    weights   (steps,) how much a squared error of the model in each step costs in the picture
    compared  on the held-out pictures: `tuned` first
    measured  settings whose loss was measured
    pictures  tuned on, and held out
    clock     what steps were found to take; None where costs are FLOPs
    """

    goal: Goal
    method: Placed
    plan: Plan
    between: str
    ratio: float
    measure: str
    loss: float
    weights: tuple[float, ...]
    compared: tuple[Compared, ...]
    measured: int
    pictures: tuple[int, int]
    clock: Clock | None


def tune(
    model: str | Path,
    goal: Goal,
    *,
    prompts: int | Path = 24,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int = 8,
    trials: int = 24,
    against: Sequence[str] = PUBLISHED,
    seed: int = _SEED,
    device: str | None = None,
    dtype: str | None = None,
    memo: Path | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Finds which steps to compute in full and what to do between them, for a goal.

    Measured are: how the model's answers resemble each other from step to step, in uncached runs; how much each step
    matters, by reusing its neighbour in that step alone; what steps of each kind take on this machine; and the loss of
    whole settings, which start from the best of the first three (`tuning.search`) and go on as a local search.

    prompts  how many of a demo's own, or a file with one in each line; a third of them is held out for the report
    trials   settings that the local search may try, each of which draws all other prompts once
    against  published methods that the result is compared with, by name
    memo     a folder that takes what was measured; a tuning that was stopped goes on from it

    Raises OptionError and its kin for what cannot be asked.
    """
    _check(prompts, batch, trials, against)
    if steps == 1:
        raise OptionError("steps=1 is not allowed; allowed: 2 or more, one of which may be served")
    pipe = load_pipeline(model, device=device, dtype=dtype)
    tasks = tasks_for(pipe, model, prompts, check_seed(seed))
    if len(tasks) < 2:
        raise OptionError(f"prompts={prompts!r} is not allowed; allowed: at least 2, one of which is held out")
    held_out = max(1, round(HELD_OUT * len(tasks)))
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "size": {}}
    counter = _Counter(tell)
    subject = Subject(pipe, tasks[-1], options, counter)
    measure = measure_for(subject.picture, demo=is_demo(model))
    about = {"model": str(model), "transformer": plain_class(pipe.transformer).__name__, "steps": subject.steps}
    about |= {"scheduler": plain_class(pipe.scheduler).__name__, "guidance": guidance, "tasks": _digest(tasks)}
    about |= {"dtype": str(pipe.transformer.dtype).removeprefix("torch."), "batch": batch, "measure": measure}
    about |= {"weights": fingerprint(model), "tocache": installed_version("tocache")}
    with Memo(memo, about) as kept:
        draws, others = (
            Draws(name, pipe, _batches(some, batch), options, kept, measure, counter)
            for name, some in (("tuned on", tasks[held_out:]), ("held out", tasks[:held_out]))
        )
        counter.expect(PROBES + len(draws.batches) * (1 + trials) + len(others.batches) * (3 + len(against)))
        clock = Clock(subject, kept) if goal.by == SECONDS else None
        found, search = _find(goal, subject, draws, clock, counter, trials)
        counter.phase = "held-out prompts"
        compared = compare(found.method, subject, others, search.price, published=against, clock=clock)
        return _tuned(goal, found, search, compared, clock, (len(tasks) - held_out, held_out), subject, about)


class _Counter:
    """Tells of each call of the pipeline."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self.tell, self.phase, self.done, self.total, self.best = tell, "looking at the model", 0, 1, ""
        self.rank: Callable[[Candidate, float], float] = lambda candidate, loss: loss  # less is better
        self._least = inf

    def expect(self, total: int) -> None:
        self.total = self.done + total

    def note(self, candidate: Candidate, loss: float) -> None:
        """Remembers the candidate if it is the best so far."""
        rank = self.rank(candidate, loss)
        if rank < self._least:
            self._least = rank
            self.best = f"loss {loss:.4g}: {len(candidate.spots.full)} full, {candidate.between.name}"

    def __call__(self) -> None:
        self.total = max(self.total, self.done + 1)
        self.tell(Progress(self.phase, self.done, self.total, self.best))
        self.done += 1


def _find(
    goal: Goal, subject: Subject, draws: Draws, clock: Clock | None, counter: _Counter, trials: int
) -> tuple[Candidate, Search]:
    price: Price = FlopsPrice(subject)
    ways = betweens(subject.anatomies)
    if clock is not None:
        counter.phase = "timing steps"
        clock.calibrate([between.placed(_example(between), subject.steps) for between in ways])
        price = SecondsPrice(clock)
    limit = goal.limit(price.uncached)
    _check_reachable(goal, limit, price, ways, subject.steps)
    counter.phase = "uncached"
    gram = draws.gram()
    counter.phase = "weighing steps"
    weights = _weigh(draws, gram)
    counter.phase = "searching"
    search = Search(draws, price, subject.anatomies, ways, gram, weights, counter.note)
    most = goal.max_loss
    if most is None:
        return search.best(limit, trials), search
    counter.rank = lambda candidate, loss: price.cost(candidate.method) if loss <= most else inf
    return search.fastest(most, trials), search


def _example(between: Between) -> Spots:
    """Steps for a method of that way, whose cost is asked for by kind of step alone."""
    return Spots((0,), () if between.tokens is None else (1,))


def _weigh(draws: Draws, gram: Floats) -> Floats:
    """The weight of each step: what reusing its neighbour in that step alone costs, by the squared error of it.

    The first batch tells it well enough: weights differ by orders of magnitude.
    """
    steps = len(gram)
    measured = {}
    for step in sorted(set(np.linspace(1, steps - 1, min(PROBES, steps - 1)).round().astype(int).tolist())):
        full = tuple(s for s in range(steps) if s != step)
        measured[step] = draws.loss(Placed(full, steps), 1) / max(served_error(gram, step - 1, step), 1e-30)
    return spread_weights(measured, steps)


def _check_reachable(goal: Goal, limit: float, price: Price, ways: Sequence[Between], steps: int) -> None:
    """Raises OptionError, which names floor and uncached cost, where nothing costs so little."""
    floor = min(price.cost(between.placed(Spots((0,)), steps)) for between in ways if between.tokens is None)
    if goal.speedup is not None and limit < floor:
        most = price.uncached / floor
        raise OptionError(
            f"speedup={goal.speedup:g} is not allowed; allowed with {steps} steps: up to {most:.3g} in {goal.by}"
        )
    if goal.latency is not None and not floor <= limit < price.uncached:
        raise OptionError(
            f"latency={goal.latency:.3g} s is not allowed: the loop of one picture takes {price.uncached:.3g} s here "
            f"without a cache, and {floor:.3g} s with one full step of {steps}; allowed: between these"
        )


def _tuned(
    goal: Goal,
    found: Candidate,
    search: Search,
    compared: tuple[Compared, ...],
    clock: Clock | None,
    pictures: tuple[int, int],
    subject: Subject,
    about: dict[str, Any],
) -> Tuned:
    draws, price = search.draws, search.price
    ratio, loss = price.uncached / price.cost(found.method), draws.loss(found.method)
    own = compared[0]
    origin: dict[str, Any] = {"made by": "tocache tune", "goal": str(goal), **about}
    origin |= {"between": found.between.name, f"{goal.by} ratio": ratio, "loss means": MEANINGS[draws.measure]}
    origin |= {"loss, tuned on": loss, "loss, held out": own.figures["loss"], "pictures": list(pictures)}
    if clock is not None:
        origin |= {"seconds, uncached": clock.uncached, "seconds, predicted": price.cost(found.method)}
        origin |= {"speedup, measured": own.measured, "error of the prediction": clock.error}
    origin |= about_machine(draws.pipe.device)
    plan = replace(subject.plan(found.method), origin=origin)
    return Tuned(
        goal=goal,
        method=found.method,
        plan=plan,
        between=found.between.name,
        ratio=ratio,
        measure=draws.measure,
        loss=loss,
        weights=tuple(search.weights.tolist()),
        compared=compared,
        measured=draws.memo.count(f"{draws.name}/0/"),
        pictures=pictures,
        clock=clock,
    )


def _batches(tasks: Sequence[Task], size: int) -> list[Sequence[Task]]:
    return [tasks[i : i + size] for i in range(0, len(tasks), size)]


def _digest(tasks: Sequence[Task]) -> str:
    """Of prompts and seeds."""
    text = json.dumps([[task.prompt, task.seed] for task in tasks])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(prompts: int | Path, batch: int, trials: int, against: Sequence[str]) -> None:
    for name, value in (("batch", batch), ("trials", trials), *([("prompts", prompts)] * isinstance(prompts, int))):
        check_count(name, value)
    for name in against:
        if name not in METHODS:
            raise UnknownNameError.of("method", name, METHODS)
