"""The pictures that a tuning draws: the same ones each time, with one method or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tocache.api import enabled, report
from tocache.evaluation.metrics import ssim
from tocache.evaluation.prompts import Task, batch_arguments
from tocache.generation.batches import pictures_of
from tocache.methods import Method
from tocache.plan import Anatomy, Plan
from tocache.tuning.observe import Answers, watched


class Draws:
    """Some prompts with their uncached pictures, and how far the pictures of a method are from these.

    Args:
        pipe: a pipeline on which no cache is enabled.
        tasks: what is drawn, `batch` at a time.
        options: steps, guidance and size, as in `batch_arguments`.
        tell: is called before each batch.
    """

    def __init__(
        self, pipe: Any, tasks: Sequence[Task], batch: int, options: Mapping[str, Any], tell: Callable[[], None]
    ) -> None:
        self.pipe, self.options, self.tell = pipe, options, tell
        self.batches = [tasks[i : i + batch] for i in range(0, len(tasks), batch)]
        self.references: list[Tensor] = []
        self.anatomies: tuple[Anatomy, ...] = ()
        self.steps = 0

    def draw_references(self, answers: Answers) -> None:
        """Draws without skipping anything, and notes what the scheduler is given."""
        self.references = [self._draw(batch, None, answers) for batch in self.batches]

    def loss(self, method: Method) -> float:
        """The square of the mean over pictures of the root mean squared error of their pixels in [0, 1].

        Not the mean of the squares: a few pictures in which something else comes to be would outweigh all others.
        """
        roots = [(drawn - reference).square().flatten(1).mean(dim=1).sqrt() for drawn, reference in self._pairs(method)]
        return float(torch.cat(roots).mean().square())

    def figures(self, method: Method) -> dict[str, float]:
        """Mean squared error and 1 − SSIM, over the pictures."""
        squared, unlike = [], []
        for drawn, reference in self._pairs(method):
            squared.append((drawn - reference).square().flatten(1).mean(dim=1))
            unlike.append(1 - ssim(drawn, reference))
        return {"mse": float(torch.cat(squared).mean()), "1 - ssim": float(torch.cat(unlike).mean())}

    def plan_of(self, method: Method) -> Plan:
        """The plan of `method` for these pictures."""
        return method.plan(self.anatomies, self.steps)

    def _pairs(self, method: Method) -> list[tuple[Tensor, Tensor]]:
        return [
            (self._draw(batch, method, None), reference)
            for batch, reference in zip(self.batches, self.references, strict=True)
        ]

    def _draw(self, batch: Sequence[Task], method: Method | None, answers: Answers | None) -> Tensor:
        self.tell()
        arguments = batch_arguments(self.pipe, batch, self.options)
        cached = nullcontext() if method is None else enabled(self.pipe, method)
        noted = nullcontext() if answers is None else watched(self.pipe.scheduler, answers)
        with cached, noted:
            return pictures_of(self.pipe(**arguments))

    def look(self, nothing: Method) -> None:
        """Learns the anatomy and the number of steps from a run of the first batch with a method that skips nothing."""
        self.tell()
        with enabled(self.pipe, nothing):
            self.pipe(**batch_arguments(self.pipe, self.batches[0][:1], self.options))
            plan = report(self.pipe).plan
        assert plan is not None
        self.anatomies, self.steps = plan.anatomies, plan.steps
