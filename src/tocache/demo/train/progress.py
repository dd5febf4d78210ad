"""What a run shows of itself: a bar while it goes on, the curve of its losses, the machine that it is on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(done: int, total: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A bar of steps; yields what moves it: the step that has ended, and its figures."""
    said = TextColumn("{task.description}")
    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), said)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=done)

        def show(step: int, figures: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            progress.update(task, completed=step, description=text)

        yield show


def draw_curve(table: Path, picture: Path) -> None:
    """The columns of a loss table, smoothed, against the step. Raises OptionError without matplotlib."""
    from tocache.plan.draw import pyplot_or_error

    pyplot = pyplot_or_error("the loss curve")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    names = [name for name in rows[0] if name != "step"]
    figure, axes = pyplot.subplots(len(names), 1, figsize=(8, 2.2 * len(names)), squeeze=False, sharex=True)
    for axis, name in zip(axes[:, 0], names, strict=True):
        width = max(1, len(rows) // 100)
        values = [float(row[name]) for row in rows]
        means = [sum(values[i : i + width]) / len(values[i : i + width]) for i in range(0, len(values), width)]
        axis.plot(steps[::width], means, linewidth=1)
        axis.set_ylabel(name)
        if min(means) > 0:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    try:
        figure.savefig(picture, dpi=100)
    finally:
        pyplot.close(figure)
