"""The pictures that a tuning draws: the same ones each time, with one method or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tocache.api import enabled, report
from tocache.evaluation.clock import Seconds, timed
from tocache.evaluation.prompts import Task, batch_arguments
from tocache.generation.batches import pictures_of
from tocache.methods import Method, Uncached
from tocache.plan import Plan
from tocache.tuning.losses import distances, figures, loss
from tocache.tuning.memo import Arrays, Memo
from tocache.tuning.observe import Answers, watched
from tocache.tuning.place import Floats


class Draws:
    """Some prompts with their uncached pictures, and how far the pictures of a method are from these.

    Args:
        name: what their measurements are kept by.
        pipe: a pipeline on which no cache is enabled.
        batches: what is drawn in one call each.
        options: steps, guidance and size, as in `batch_arguments`.
        memo: where measurements are kept.
        measure: of losses, as in `tuning.losses`.
        tell: is called before each call of the pipeline.
    """

    def __init__(
        self,
        name: str,
        pipe: Any,
        batches: Sequence[Sequence[Task]],
        options: Mapping[str, Any],
        memo: Memo,
        measure: str,
        tell: Callable[[], None],
    ) -> None:
        self.name, self.pipe, self.batches, self.options = name, pipe, batches, options
        self.memo, self.measure, self.tell = memo, measure, tell

    def gram(self) -> Floats:
        """(steps, steps) inner products of the model's answers in uncached runs, summed over the pictures."""
        total: Floats = np.sum([self._uncached(number)["gram"] for number in range(len(self.batches))], axis=0)
        return total

    def loss(self, method: Method, batches: int | None = None) -> float:
        """How far the pictures of `method` are from the uncached ones; of the first `batches` only, where given."""
        values: list[float] = []
        for number in range(len(self.batches) if batches is None else batches):
            name = f"{self.name}/{number}/{method}"
            values += self.memo.value(name, partial(self._distances, number, method))
        return loss(self.measure, values)

    def figures(self, method: Method) -> dict[str, list[float]]:
        """What `losses.figures` says of each picture."""
        found: dict[str, list[float]] = {}
        for number in range(len(self.batches)):
            name = f"{self.name}/{number}/figures/{method}"
            one = self.memo.value(name, partial(self._figures, number, method))
            for key, values in one.items():
                found.setdefault(key, []).extend(values)
        return found

    def _distances(self, number: int, method: Method) -> list[float]:
        return distances(self.measure, *self._pair(number, method))

    def _figures(self, number: int, method: Method) -> dict[str, list[float]]:
        return figures(*self._pair(number, method), self.measure)

    def _pair(self, number: int, method: Method) -> tuple[Tensor, Tensor]:
        reference = torch.from_numpy(self._uncached(number)["pictures"]).float()
        return self._draw(number, method), reference

    def _uncached(self, number: int) -> Arrays:
        """The uncached pictures of a batch, in half precision to be kept, and the inner products of its answers."""

        def draw() -> Arrays:
            answers = Answers()
            pictures = self._draw(number, None, answers)
            assert answers.gram is not None
            return {"pictures": pictures.half().numpy(), "gram": answers.gram}

        return self.memo.arrays(f"{self.name}-{number}", draw)

    def _draw(self, number: int, method: Method | None, answers: Answers | None = None) -> Tensor:
        self.tell()
        arguments = batch_arguments(self.pipe, self.batches[number], self.options)
        cached = nullcontext() if method is None else enabled(self.pipe, method)
        noted = nullcontext() if answers is None else watched(self.pipe.scheduler, answers)
        with cached, noted:
            return pictures_of(self.pipe(**arguments))


class Subject:
    """One picture, drawn to learn what the model is made of, and what a call for it takes.

    anatomies  of the passes of a step; steps: how often the scheduler steps; picture: as it is without a cache
    """

    def __init__(self, pipe: Any, task: Task, options: Mapping[str, Any], tell: Callable[[], None]) -> None:
        self.pipe, self.task, self.options, self.tell = pipe, task, options, tell
        self.tell()
        with enabled(pipe, Uncached()):
            self.picture = pictures_of(pipe(**batch_arguments(pipe, [task], options)))
            plan = report(pipe).plan
        assert plan is not None
        self.anatomies, self.steps = plan.anatomies, plan.steps

    def plan(self, method: Method, steps: int | None = None) -> Plan:
        """The plan of `method` for the picture."""
        return method.plan(self.anatomies, steps or self.steps)

    def seconds(self, method: Method | None, steps: int | None = None) -> Seconds:
        """How long drawing the picture takes."""
        self.tell()
        options = dict(self.options) | ({} if steps is None else {"steps": steps})
        arguments = batch_arguments(self.pipe, [self.task], options)
        with nullcontext() if method is None else enabled(self.pipe, method):
            return timed(self.pipe, arguments)[1]
