"""The benchmark: every contender draws the same pictures, in turns, and is measured against the uncached ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tocache.api import enabled, report
from tocache.engine.intercept import plain_class
from tocache.errors import OptionError
from tocache.evaluation.choose import Choice, choose, said
from tocache.evaluation.clock import Seconds, timed
from tocache.evaluation.contenders import OURS, REFERENCE, Contender, parse_methods
from tocache.evaluation.flops import Count, counted
from tocache.evaluation.peers import parse_peers
from tocache.evaluation.prompts import Task, batch_arguments, real_features, tasks_for
from tocache.evaluation.results import Figure, Results, Row
from tocache.evaluation.scores import CLAIMS, PAIRED, WHOLE, Scorer, Scores, as_figure
from tocache.generation import load_pipeline
from tocache.generation.batches import pictures_of
from tocache.machine import about_machine
from tocache.methods import Planned
from tocache.planning import check_count, check_guidance, check_seed, is_demo
from tocache.reports import Report

POINTS = (2.0, 3.0, 5.0)
COUNTED = 4
"""Batches on which the FLOPs of an adaptive contender are counted; of the others one batch tells all."""
_NOT_FINITE = "holds numbers that are not finite"

Tell = Callable[[str, int, int], None]
"""Is told what is done, how many of how many pieces of work are behind."""


def bench(
    model: str | Path,
    *,
    methods: str = "all",
    peers: str = "all",
    points: Sequence[float] = POINTS,
    prompts: int | Path = 64,
    batch: int = 8,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    resolution: str | None = None,
    aspect_ratio: str | None = None,
    duration: str | None = None,
    tell: Tell = lambda phase, done, total: None,
) -> Results:
    """Measures methods and peers on a pipeline at several speed-ups each, against the model without a cache.

    model    a demo, a folder in diffusers' format or a hub id
    methods  names, with options where wished: `toca,fora,toca:fresh_ratio=0.2`; `all`
    peers    names (`tocache.evaluation.peers.PEERS`), `all` or `none`; fewer steps always take part
    points   FLOPs ratios around which each method's settings are chosen, and at which its curve is read
    prompts  how many of the demos' world, or a file with one in each line
    batch    pictures of one call; a last, smaller batch is scored but not timed
    resolution, aspect_ratio, duration   of videos, by the names that the pipeline knows; None: its default

    An interruption (Ctrl-C) ends the rounds; what was measured by then is returned, and says so. A contender that
    fails has a row that says why. Raises OptionError and its kin for what cannot be asked.
    """
    wanted, others = parse_methods(methods), parse_peers(peers)
    for name, value in (("batch", batch), *([("prompts", prompts)] if isinstance(prompts, int) else [])):
        check_count(name, value)
    if not points or min(points) <= 1:
        raise OptionError(f"points={tuple(points)} is not allowed; allowed: FLOPs ratios above 1")
    if steps is not None:
        check_count("steps", steps)
    if guidance is not None:
        check_guidance(guidance)
    pipe = load_pipeline(model, device=device, dtype=dtype)
    tasks = tasks_for(pipe, model, prompts, check_seed(seed))
    batches = [tasks[i : i + batch] for i in range(0, len(tasks), batch)]
    size = {"resolution": resolution, "aspect_ratio": aspect_ratio, "num_frames": duration}
    match = Match(pipe, batches, {"steps": steps, "guidance": guidance, "size": size}, judged=is_demo(model))
    about = {
        "model": str(model),
        "transformer": plain_class(pipe.transformer).__name__,
        "scheduler": plain_class(pipe.scheduler).__name__,
        "prompts": len(tasks) if isinstance(prompts, int) else str(prompts),
        "pictures": len(tasks),
        "batch": batch,
        "seed": seed,
        "points": list(points),
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
    } | about_machine(pipe.device)
    real: Tensor | None = None
    try:
        match.prepare(wanted, others, points, tell)
        if match.scorer.judged:
            real = real_features(pipe, model, max(256, len(tasks)), seed, match.size)
        match.play(tell)
    except KeyboardInterrupt:
        return match.results(about, real, interrupted=True)
    return match.results(about, real)


@dataclass
class Entry:
    """A contender with what was measured of it so far."""

    contender: Contender
    source: str = ""
    counts: list[float] = field(default_factory=list)  # FLOPs of the uncached model ÷ of this one, by batch
    flops: float | None = None  # of the first batch
    figures: Report | None = None
    plan: Planned | None = None
    scores: Scores = field(default_factory=Scores)
    pictures: int = 0
    loops: list[tuple[int, float]] = field(default_factory=list)  # (round, seconds)
    totals: list[tuple[int, float]] = field(default_factory=list)
    device_bytes: int = 0
    failed: str = ""

    def cut(self, rounds: int, pictures: int) -> None:
        """Forgets all but the first rounds: an unfinished one would compare different pictures."""
        self.pictures = min(self.pictures, pictures)
        self.loops, self.totals = self.loops[:rounds], self.totals[:rounds]
        self.scores.features = self.scores.features[:rounds]
        for name, values in self.scores.values.items():
            self.scores.values[name] = values[:pictures]


class Match:
    """One pipeline, its batches of tasks, and the contenders."""

    def __init__(self, pipe: Any, batches: Sequence[Sequence[Task]], options: dict[str, Any], *, judged: bool) -> None:
        self.pipe, self.batches, self.options = pipe, batches, options
        self.scorer = Scorer(judged=judged)
        self.reference = Entry(Contender("uncached", "every step in full", REFERENCE))
        self.entries: list[Entry] = []
        self.out: list[Row] = []  # what takes no part, and why
        self.size = 0  # side of the pictures
        self._finished = 0  # rounds
        self._uncached: dict[int, int] = {}  # FLOPs of the uncached model by batch

    def prepare(self, wanted: Any, peers: Any, points: Sequence[float], tell: Tell) -> None:
        """Chooses the settings, and lets each of them draw the first batch once, counted and untimed."""
        tell("counting the uncached model", 0, 1)
        output, count = self._count(self.reference, 0)
        self._uncached[0] = count.flops
        self.size = pictures_of(output).shape[-1]
        self.reference.flops, self.reference.counts = count.flops, [1.0]
        default = inspect.signature(plain_class(self.pipe).__call__).parameters["num_inference_steps"].default
        choice = Choice(
            pipe=self.pipe,
            uncached=count.flops,
            steps=self.options["steps"] or default,
            ticks=len(self.pipe.scheduler.timesteps),
            points=points,
            draw=lambda: self._draw(self.reference, 0),
            peek=lambda: self._draw(Entry(Contender("", "", REFERENCE, arguments={"num_inference_steps": 2})), 0),
            ratio=lambda contender: count.flops / max(1, self._count(Entry(contender), 0)[1].flops),
            tell=tell,
        )
        for source, contender, failed in choose(choice, wanted, peers):
            if failed:
                self.out.append(Row(contender.curve, contender.setting, contender.kind, source, failed=failed))
            else:
                self.entries.append(Entry(contender, source))
        for number, entry in enumerate(self.entries):
            tell(f"warming up {entry.contender.curve}", number, len(self.entries))
            self._warm_up(entry)

    def play(self, tell: Tell) -> None:
        """All rounds: in each, the uncached model and then every contender draws the same batch, in shifting order."""
        total = len(self.batches) * (1 + len(self.entries))
        for number, tasks in enumerate(self.batches):
            playing = [entry for entry in self.entries if not entry.failed]
            shift = number % max(1, len(playing))
            references: Tensor | None = None
            for turn, entry in enumerate([self.reference, *playing[shift:], *playing[:shift]]):
                tell(entry.contender.curve, number * (1 + len(self.entries)) + turn, total)
                pictures = self._play_one(entry, number, tasks, references)
                references = pictures if entry is self.reference else references
            for entry in playing:
                if entry.contender.adaptive and not entry.failed and 0 < number < COUNTED:
                    self._count_again(entry, number)
            self._finished = number + 1
        tell("done", total, total)

    def results(self, about: dict[str, Any], real: Tensor | None, *, interrupted: bool = False) -> Results:
        """Everything that was measured so far; of an interrupted match the finished rounds, where there is one."""
        if interrupted and self._finished:
            for entry in (self.reference, *self.entries):
                entry.cut(self._finished, sum(map(len, self.batches[: self._finished])))
        played = [entry for entry in (self.reference, *self.entries) if entry.pictures or entry.failed]
        rows = tuple(self._row(entry, real) for entry in played)
        by_picture = {f"{e.contender.curve}: {e.contender.setting}": e.scores.values for e in played}
        about = about | {"left_out": self.scorer.left_out}
        return Results(about, rows + tuple(self.out), by_picture, interrupted)

    def _draw(self, entry: Entry, number: int) -> tuple[Any, Seconds, Report | None]:
        """What an entry's contender draws of a batch, and how long it took."""
        contender = entry.contender
        arguments = batch_arguments(self.pipe, self.batches[number], self.options) | dict(contender.arguments)
        # a plan that exists is not made again: an application makes it once, too
        use = contender.use(self.pipe) if entry.plan is None else enabled(self.pipe, entry.plan)
        with use:
            output, seconds = timed(self.pipe, arguments)
            return output, seconds, report(self.pipe) if contender.kind == OURS else None

    def _count(self, entry: Entry, number: int) -> tuple[Any, Count]:
        with counted(self.pipe.transformer) as count:
            output, _, entry.figures = self._draw(entry, number)
        return output, count

    def _warm_up(self, entry: Entry) -> None:
        try:
            _, count = self._count(entry, 0)
        except Exception as error:  # whatever another package raises is its row's content
            entry.failed = said(error)
            return
        entry.flops, entry.counts = count.flops, [self._uncached[0] / max(1, count.flops)]
        if entry.figures is not None and entry.figures.plan is not None:
            entry.plan = Planned(entry.figures.plan)

    def _count_again(self, entry: Entry, number: int) -> None:
        if number not in self._uncached:
            self._uncached[number] = self._count(self.reference, number)[1].flops
        entry.counts.append(self._uncached[number] / max(1, self._count(entry, number)[1].flops))

    def _play_one(self, entry: Entry, number: int, tasks: Sequence[Task], references: Tensor | None) -> Tensor | None:
        cuda = self.pipe.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.pipe.device)
        try:
            output, seconds, figures = self._draw(entry, number)
        except Exception as error:
            if entry is self.reference:
                raise
            entry.failed = said(error)
            return None
        if cuda:
            entry.device_bytes = max(entry.device_bytes, torch.cuda.max_memory_allocated(self.pipe.device))
        entry.figures = figures or entry.figures
        if len(tasks) == len(self.batches[0]):
            entry.totals.append((number, seconds.total))
            if seconds.loop is not None:
                entry.loops.append((number, seconds.loop))
        pictures = pictures_of(output)
        if not pictures.isfinite().all():
            if entry is self.reference:
                raise OptionError(
                    f"batch {number} of the uncached model {_NOT_FINITE}: there is nothing to compare with"
                )
            entry.failed = f"batch {number} {_NOT_FINITE}"
            return None
        entry.pictures += len(pictures)
        self.scorer.score(entry.scores, tasks, pictures, references)
        return pictures

    def _row(self, entry: Entry, real: Tensor | None) -> Row:
        contender, figures, values = entry.contender, entry.figures, entry.scores.values
        row = Row(contender.curve, contender.setting, contender.kind, entry.source, failed=entry.failed)
        if entry.failed:
            return row
        ratio = float(np.mean(entry.counts)) if entry.counts else None
        loop, whole = _speedup(self.reference.loops, entry.loops), _speedup(self.reference.totals, entry.totals)
        shown = {name: as_figure(values.get(name, [])) for name in (CLAIMS, WHOLE) if name in values}
        return replace(
            row,
            pictures=entry.pictures,
            flops=entry.flops,
            flops_ratio=ratio,
            planned_ratio=figures.speedup if figures is not None else None,
            counted_batches=len(entry.counts),
            loop_seconds=_spread(entry.loops),
            total_seconds=_spread(entry.totals),
            loop_speedup=loop,
            total_speedup=whole,
            realised_over_flops=loop / ratio if loop and ratio else None,
            cache_bytes=figures.cache_bytes_peak if figures is not None else None,
            device_bytes=entry.device_bytes or None,
            paired={name: as_figure(values.get(name, [])) for name in PAIRED if name in values},
            shown=shown,
            frechet=self.scorer.frechet(entry.scores, real),
            note=f"{figures.overruled} sites overruled" if figures is not None and figures.overruled else "",
        )


def _speedup(reference: Sequence[tuple[int, float]], seconds: Sequence[tuple[int, float]]) -> float | None:
    """Median over the rounds that both played of the reference's seconds ÷ these."""
    uncached = dict(reference)
    ratios = [uncached[number] / value for number, value in seconds if number in uncached]
    return float(np.median(ratios)) if ratios else None


def _spread(seconds: Sequence[tuple[int, float]]) -> Figure | None:
    values = [value for _, value in seconds]
    return {f"p{q}": float(np.percentile(values, q)) for q in (20, 50, 80)} if values else None
