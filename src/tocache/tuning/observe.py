"""What an uncached run shows of a model: how its answers resemble each other from step to step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tocache.tuning.place import Floats


class Answers:
    """What the scheduler was given in each step of the runs so far, as inner products summed over all of them.

    With guidance that is the guided answer, so that the halves of a batch count as they do in the picture.
    """

    def __init__(self) -> None:
        self.gram: Floats | None = None  # (steps, steps)
        self._run: list[torch.Tensor] = []

    def note(self, answer: torch.Tensor) -> None:
        self._run.append(answer.detach().flatten().float().cpu())

    def end_run(self) -> None:
        """Adds the run's inner products; a run of another number of steps than those before raises ValueError."""
        answers, self._run = torch.stack(self._run), []
        gram: Floats = (answers @ answers.T).double().numpy()
        if self.gram is not None and self.gram.shape != gram.shape:
            raise ValueError(f"a run of {len(gram)} steps among runs of {len(self.gram)}")
        self.gram = gram if self.gram is None else self.gram + gram


@contextmanager
def watched(scheduler: Any, answers: Answers) -> Iterator[None]:
    """Notes in `answers` what `scheduler` is given in the with-block, which is one run."""
    step = scheduler.step

    @functools.wraps(step)  # pipelines inspect the signature
    def noted(model_output: Any, *args: Any, **kwargs: Any) -> Any:
        answers.note(model_output)
        return step(model_output, *args, **kwargs)

    scheduler.__dict__["step"] = noted
    try:
        yield
    finally:
        scheduler.__dict__.pop("step", None)
    answers.end_run()
