"""The bar of a tuning: what is done, how far it is, and the best so far below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

if TYPE_CHECKING:
    from tocache.tuning import Progress

CELLS = 30


class _WithBest(Bars):
    """A bar, and the best so far in a line of its own."""

    best = ""

    def get_renderable(self) -> RenderableType:
        bars = super().get_renderable()
        return Group(bars, Text(f"best so far: {self.best}", "bright_black")) if self.best else bars


@contextmanager
def tune_bar() -> Iterator[Callable[[Progress], None]]:
    """Yields what `tune(tell=…)` calls; draws on the error stream, and leaves nothing there."""
    columns = (TextColumn("{task.description:18}", markup=False), BarColumn(CELLS), MofNCompleteColumn())
    bars = _WithBest(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)

    def tell(progress: Progress) -> None:
        if not bars.tasks:
            bars.start()
            bars.add_task(progress.phase)
        bars.best = progress.best
        bars.update(bars.task_ids[0], description=progress.phase, completed=progress.done, total=progress.total)

    try:
        yield tell
    finally:
        if bars.tasks:
            bars.stop()
