"""A progress bar whose cells tell full from partial steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

if TYPE_CHECKING:
    from tocache.generation import Progress

KINDS = {"full": ("█", "red"), "partial": ("▒", "blue"), "reuse": ("·", "bright_black")}
MIXED = ("▓", "magenta")  # several steps in one cell, of which some are full
CELLS = 30


class StepsColumn(ProgressColumn):
    """One cell per step, or per few steps where they are many."""

    def render(self, task: Task) -> Text:
        kinds: list[str] = task.fields["kinds"]
        total = int(task.total or 1)
        each = -(-total // CELLS)
        text = Text()
        for first in range(0, total, each):
            text.append(*_cell(kinds[first : first + each]))
        return Text("▕") + text + Text("▏")


def _cell(kinds: list[str]) -> tuple[str, str]:
    """Character and style of one cell; an empty one where none of its steps has ended."""
    found = [kind for kind in KINDS if kind in kinds]
    if found[:1] == ["full"] and len(found) > 1:
        return MIXED
    return KINDS[found[0]] if found else (" ", "")


class CountsColumn(ProgressColumn):
    """12/20: 4 full, 8 partial."""

    def render(self, task: Task) -> Text:
        kinds: list[str] = task.fields["kinds"]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)
        return Text(f"{len(kinds)}/{int(task.total or 0)}: {counts}")


class PhaseColumn(ProgressColumn):
    """What is being drawn."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.description:13}")


@contextmanager
def step_bar() -> Iterator[Callable[[Progress], None]]:
    """Yields what `generate(on_step=…)` calls; draws one bar per phase on the error stream."""
    tasks: dict[str, TaskID] = {}
    columns = (PhaseColumn(), StepsColumn(), CountsColumn())
    bars = Bars(*columns, console=Console(stderr=True))

    def on_step(progress: Progress) -> None:
        if progress.phase not in tasks:
            bars.start()  # not before there is anything to show: it would leave an empty line above an error
            tasks[progress.phase] = bars.add_task(progress.phase, total=progress.steps, kinds=[])
        task = tasks[progress.phase]
        kinds = bars.tasks[bars.task_ids.index(task)].fields["kinds"]
        kinds.append(progress.kind)
        bars.update(task, completed=progress.step)

    try:
        yield on_step
    finally:
        if tasks:
            bars.stop()


@contextmanager
def work_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields what is told (what is done, pieces behind, pieces in all); one bar for all, on the error stream."""
    columns = (PhaseColumn(), BarColumn(CELLS), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bars = Bars(*columns, console=Console(stderr=True), transient=True)
    tasks: list[TaskID] = []

    def tell(phase: str, done: int, total: int) -> None:
        if not tasks:
            bars.start()
            tasks.append(bars.add_task(phase, total=total))
        bars.update(tasks[0], description=phase, completed=done, total=total)

    try:
        yield tell
    finally:
        if tasks:
            bars.stop()
