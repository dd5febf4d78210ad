"""What a study looks at: a pipeline and what it draws, as one batch, from the same noise each time."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tocache.analysis.forwards import OnForward, around_forwards
from tocache.api import Trace, enabled, report, tap, trace
from tocache.engine.engine import OutputListener
from tocache.engine.intercept import plain_class
from tocache.errors import OptionError
from tocache.evaluation.prompts import Task, batch_arguments, tasks_for
from tocache.generation.batches import pictures_of
from tocache.generation.draw import load_pipeline
from tocache.machine import about_machine
from tocache.methods import Method
from tocache.plan import Plan
from tocache.planning import check_count, check_guidance, check_seed

Tell = Callable[[str, int, int], None]
"""Is told what is done, how much of it is behind, and how much there is."""


@dataclass(frozen=True)
class Drawn:
    """What a run drew, and the plan that it ran."""

    pictures: Tensor  # (B, 3, H, W), videos (B, F, 3, H, W), in [0, 1]
    plan: Plan
    choices: Trace


class Subject:
    """A pipeline, some prompts, and the options of its call: the same pictures in every run.

    Args:
        pipe: any pipeline of a supported family. What is enabled on it stays so; a study's runs put it aside.
        prompts: what is drawn in one batch: texts, or names or numbers of classes.
        steps: None is the pipeline's own.
        guidance: None is the pipeline's own.
        seed: of the first picture's noise; the others count up.
        call: further arguments of the pipeline's call, such as a size.
        name: what the pipeline is called in files and pictures; None is its class.
        tell: is told how far a study is.

    Raises OptionError where one of them cannot be.
    """

    def __init__(
        self,
        pipe: Any,
        prompts: Sequence[str | int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        call: Mapping[str, Any] | None = None,
        name: str | None = None,
        tell: Tell | None = None,
    ) -> None:
        seed = check_seed(seed)
        self._set(pipe, [Task(prompt, seed + i) for i, prompt in enumerate(prompts)], steps, guidance, call)
        self.name = plain_class(pipe).__name__ if name is None else name
        self.tell: Tell = tell or _tell_nobody

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        prompts: int | Path = 2,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        device: str | None = None,
        dtype: str | None = None,
        tell: Tell | None = None,
    ) -> Subject:
        """The subject that a command names.

        model    a demo, a folder in diffusers' format or a hub id
        prompts  how many of the demos' own, or a file with one in each line

        Raises UnknownNameError and OptionError, which say what is allowed.
        """
        if isinstance(prompts, int):
            check_count("prompts", prompts)
        pipe = load_pipeline(model, device=device, dtype=dtype)
        tasks = tasks_for(pipe, model, prompts, check_seed(seed))
        subject = cls.__new__(cls)
        subject._set(pipe, tasks, steps, guidance, None)
        subject.name, subject.tell = str(model), tell or _tell_nobody
        return subject

    def _set(
        self,
        pipe: Any,
        tasks: Sequence[Task],
        steps: int | None,
        guidance: float | None,
        call: Mapping[str, Any] | None,
    ) -> None:
        if not tasks:
            raise OptionError("prompts=[] is not allowed; allowed: at least one")
        if steps is not None:
            check_count("steps", steps)
        if guidance is not None:
            check_guidance(guidance)
        self.pipe, self.tasks = pipe, tuple(tasks)
        self._options: dict[str, Any] = {"steps": steps, "guidance": guidance, "size": {}}
        self._call = dict(call or {})

    def first(self) -> Subject:
        """The same with the first prompt alone."""
        one = copy.copy(self)
        one.tasks = self.tasks[:1]
        return one

    @property
    def guidance(self) -> float:
        """The scale at which both halves of a batch become one answer; 1 where the pipeline has none."""
        given = self._options["guidance"]
        if given is None:
            asked = inspect.signature(plain_class(self.pipe).__call__).parameters.get("guidance_scale")
            given = 1.0 if asked is None else asked.default
        return float(given)

    def draw(
        self,
        method: Method,
        *,
        on_output: OutputListener | None = None,
        on_forward: OnForward | None = None,
    ) -> Drawn:
        """One run with `method`; `on_output` as in `tocache.tap`, `on_forward` as in `around_forwards`."""
        arguments = batch_arguments(self.pipe, self.tasks, self._options) | self._call
        with ExitStack() as stack:
            stack.enter_context(enabled(self.pipe, method))
            choices = stack.enter_context(trace(self.pipe))
            if on_output is not None:
                stack.enter_context(tap(self.pipe, on_output))
            if on_forward is not None:
                stack.enter_context(around_forwards(self.pipe, on_forward))
            pictures = pictures_of(self.pipe(**arguments))
            plan = report(self.pipe).plan
        assert plan is not None
        return Drawn(pictures, plan, choices)

    def about(self, drawn: Drawn, study: str) -> dict[str, Any]:
        """What a study's figures depend on, as JSON values."""
        shape = drawn.plan.anatomies[0].shape
        return {
            "study": study,
            "model": self.name,
            "transformer": drawn.plan.anatomies[0].model,
            "scheduler": plain_class(self.pipe.scheduler).__name__,
            "steps": drawn.plan.steps,
            "guidance": self.guidance,
            "prompts": [task.prompt for task in self.tasks],
            "seeds": [task.seed for task in self.tasks],
            "tokens": dict(shape.tokens),
            "grid": None if shape.grid is None else list(shape.grid),
            "dtype": str(self.pipe.transformer.dtype).removeprefix("torch."),
            **about_machine(self.pipe.device),
        }


def _tell_nobody(what: str, done: int, total: int) -> None:
    pass
