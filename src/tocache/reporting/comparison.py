"""`compare`: the same pictures without a cache and with each of several methods, with all that a page shows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tocache.api import enabled, report, trace
from tocache.engine.intercept import plain_class
from tocache.errors import OptionError
from tocache.evaluation.clock import Seconds, timed
from tocache.evaluation.prompts import Task, tasks_for
from tocache.evaluation.scores import CLAIMS, PAIRED, WHOLE, Scorer, Scores
from tocache.generation import load_pipeline, makes_videos
from tocache.generation.comparison import fresh_by_step
from tocache.generation.draw import FPS
from tocache.generation.result import Frames, Freshness
from tocache.generation.runs import Progress, Teller, frames_of, recording_costs, seeded, told_cached, told_uncached
from tocache.generation.runs import warm_up as warm_up_one
from tocache.machine import about_machine
from tocache.methods.spec import split_outside_brackets
from tocache.models.architectures import call_arguments
from tocache.models.registry import family_of
from tocache.planning import check_count, check_guidance, check_seed, is_demo
from tocache.reporting.columns import UNCACHED, Column, Drawn, check_name, columns_of, steps_of

DEFAULT_METHODS = "toca,fora,taylorseer"
"""One of each kind: fresh tokens, nothing but reuse, a forecast."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    about     model, settings, hardware and versions
    columns   the uncached model first
    fps       frames per second of videos
    left_out  metrics that could not be measured, and why
    """

    about: Mapping[str, Any]
    tasks: tuple[Task, ...]
    columns: tuple[Column, ...]
    fps: float
    left_out: Mapping[str, str]
    interrupted: bool = False

    @property
    def metrics(self) -> list[str]:
        """The metrics that were measured of any picture, in the order in which they are shown."""
        there = {name for column in self.columns for one in column.drawn for name in one.scores}
        return [name for name in (*PAIRED, CLAIMS, WHOLE) if name in there]

    def speedup(self, column: Column, part: str = "total") -> float | None:
        """Median over the prompts of the seconds without a cache ÷ with it, drawn one soon after the other."""
        pairs = [
            (getattr(a.seconds, part), getattr(b.seconds, part))
            for a, b in zip(self.columns[0].drawn, column.drawn, strict=True)
        ]
        ratios = [uncached / cached for uncached, cached in pairs if uncached is not None and cached]
        return float(np.median(ratios)) if ratios else None


def compare(
    model: str | Path,
    *,
    methods: str = DEFAULT_METHODS,
    prompts: int | Path | Sequence[str] = 4,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    resolution: str | None = None,
    aspect_ratio: str | None = None,
    duration: str | None = None,
    tell: Tell = lambda phase, done, total: None,
) -> Comparison:
    """Draws the same pictures or videos without a cache and with each method, in turns, one at a time.

    model    a demo, a folder in diffusers' format or a hub id
    methods  names with options where wished, presets or plan files: `toca,fora:interval=4,paper-r70,plan.json`
    prompts  texts; or how many of a demo's own; or a file with one in each line
    steps    None: that of the presets and plans among the methods, else the pipeline's default
    seed     of the first picture's noise; the others count up
    resolution, aspect_ratio, duration   of videos, by the names that the pipeline knows; None: its default

    Seconds are those of single pictures. An interruption (Ctrl-C) keeps what is complete. Raises OptionError and its
    kin for what cannot be asked, before anything is drawn.
    """
    if isinstance(prompts, int):
        check_count("prompts", prompts)
    if steps is not None:
        check_count("steps", steps)
    if guidance is not None:
        check_guidance(guidance)
    names = split_outside_brackets(methods, ",")
    for name in names:
        check_name(name)
    pipe = load_pipeline(model, device=device, dtype=dtype)
    columns = [Column(UNCACHED, None), *columns_of(names, family_of(pipe.transformer).name)]
    steps = steps_of(columns) if steps is None else steps
    for column in columns[1:]:
        with enabled(pipe, column.method):  # what this model cannot do is refused now
            pass
    tasks = _tasks(pipe, model, prompts, check_seed(seed))
    size = {"resolution": resolution, "aspect_ratio": aspect_ratio, "num_frames": duration}
    arguments = [call_arguments(pipe, task.prompt, steps=steps, guidance=guidance, size=size) for task in tasks]
    scorer = Scorer(judged=is_demo(model))
    match = _Match(pipe, columns, scorer, tell)
    interrupted = False
    try:
        match.warm_up(arguments[0])
        for number, (task, given) in enumerate(zip(tasks, arguments, strict=True)):
            match.draw(number, len(tasks), task, given)
    except KeyboardInterrupt:
        if not columns[-1].drawn:
            raise
        interrupted = True
        match.cut()
    about = {
        "model": str(model),
        "transformer": columns[-1].report.model if columns[-1].report else plain_class(pipe.transformer).__name__,
        "pipeline": plain_class(pipe).__name__,
        "scheduler": plain_class(pipe.scheduler).__name__,
        "steps": columns[-1].report.steps if columns[-1].report else steps,
        "guidance": guidance,
        "seed": seed,
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
    }
    done = tuple(tasks[: len(columns[0].drawn)])
    fps = float(arguments[0].get("fps", FPS))
    return Comparison(about | about_machine(pipe.device), done, tuple(columns), fps, scorer.left_out, interrupted)


class _Match:
    """Draws one prompt after the other with every column."""

    def __init__(self, pipe: Any, columns: Sequence[Column], scorer: Scorer, tell: Tell) -> None:
        self.pipe, self.columns, self.scorer, self.tell = pipe, columns, scorer, tell

    def warm_up(self, arguments: dict[str, Any]) -> None:
        for column in self.columns[1:]:
            self.tell("warming up", 0, 1)
            warm_up_one(self.pipe, partial(enabled, self.pipe), column.method, arguments, lambda progress: None)

    def draw(self, number: int, prompts: int, task: Task, arguments: dict[str, Any]) -> None:
        """One prompt: the uncached picture first, then the others in shifting order."""
        cached = list(range(1, len(self.columns)))
        shift = number % max(1, len(cached))
        reference: Tensor | None = None
        found: dict[int, Drawn] = {}
        for turn, place in enumerate([0, *cached[shift:], *cached[:shift]]):
            before = number * len(self.columns) + turn
            total = prompts * len(self.columns)
            found[place], pixels = self._one(self.columns[place], task, arguments, reference, before, total)
            reference = pixels if place == 0 else reference
        for place, one in found.items():  # all of a prompt or none of it
            self.columns[place].drawn.append(one)

    def cut(self) -> None:
        """Forgets what not every column has drawn."""
        fewest = min(len(column.drawn) for column in self.columns)
        for column in self.columns:
            del column.drawn[fewest:]

    def _one(
        self, column: Column, task: Task, arguments: dict[str, Any], reference: Tensor | None, before: int, total: int
    ) -> tuple[Drawn, Tensor]:
        pipe = self.pipe

        def tell(progress: Progress) -> None:
            # a call's steps are its pieces of work, so that the bar moves while a large model draws
            self.tell(column.label, before * progress.steps + progress.step, total * progress.steps)

        traced = column.method is not None and not recording_costs(pipe.device)
        frames, seconds, fresh = self._call(column, arguments, task.seed, traced, tell)
        if column.method is not None and not traced:  # what was chosen takes a run of its own
            fresh = self._call(column, arguments, task.seed, True, lambda progress: None)[2]
        scores, pixels = Scores(), pixels_of(frames, video=makes_videos(pipe))
        self.scorer.score(scores, [task], pixels, reference)
        return Drawn(frames, seconds, fresh, {name: values[0] for name, values in scores.values.items()}), pixels

    def _call(
        self, column: Column, arguments: dict[str, Any], seed: int, traced: bool, tell: Teller
    ) -> tuple[Frames, Seconds, Freshness | None]:
        pipe, cuda = self.pipe, self.pipe.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(pipe.device)
        recorded = None
        with ExitStack() as stack:
            if column.method is None:
                stack.enter_context(told_uncached(pipe, tell))
            else:
                stack.enter_context(enabled(pipe, column.method))
                stack.enter_context(told_cached(pipe, tell))
                recorded = stack.enter_context(trace(pipe)) if traced else None
            output, seconds = timed(pipe, arguments | {"generator": seeded(seed)})
            if column.method is not None and column.report is None:
                column.report = report(pipe)
        if cuda and not (traced and recording_costs(pipe.device)):
            column.device_bytes = max(column.device_bytes or 0, torch.cuda.max_memory_allocated(pipe.device))
        return frames_of(pipe, output), seconds, fresh_by_step(recorded) if recorded is not None else None


def pixels_of(frames: Frames, *, video: bool) -> Tensor:
    """Frames as one picture (1, 3, H, W), or one video (1, F, 3, H, W), float32 in [0, 1]."""
    stacked = np.stack([np.asarray(frame.convert("RGB"), dtype=np.float32) / 255 for frame in frames])
    pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()  # (F, H, W, 3) -> (F, 3, H, W)
    return pixels[None] if video else pixels


def _tasks(pipe: Any, model: str | Path, prompts: int | Path | Sequence[str], seed: int) -> list[Task]:
    if isinstance(prompts, int | Path):
        return tasks_for(pipe, model, prompts, seed)
    if not prompts:
        raise OptionError("prompts=() is not allowed; give at least one")
    return [Task(prompt, seed + i) for i, prompt in enumerate(prompts)]
