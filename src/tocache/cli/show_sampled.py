"""Progress and result of `tocache sample`, and what `tocache pack` wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from tocache.sampling import Packed, Sampled, State

BETWEEN_LINES = 60.0
"""Seconds between two lines of progress where the error stream is a file."""


@contextmanager
def sampling_bar(console: Console | None = None, between: float = BETWEEN_LINES) -> Iterator[Callable[[State], None]]:
    """Yields what `sample(tell=…)` calls: a bar on a terminal, a line per minute in a file."""
    console = console or Console(stderr=True)
    began = time.monotonic()
    columns = (TextColumn("drawing"), BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[rest]}"))
    bars = Bars(*columns, console=console, transient=True)
    task = bars.add_task("", total=None, rest="")
    told = -between

    def tell(state: State) -> None:
        nonlocal told
        seconds = time.monotonic() - began
        behind, text = state.num - state.open, rest(state, seconds)
        if console.is_terminal:
            bars.start()  # not before there is anything to show
            bars.update(task, completed=behind, total=state.num, rest=text)
        elif seconds - told >= between:
            told = seconds
            console.print(f"{behind:,} of {state.num:,}: {text}", highlight=False, soft_wrap=True)

    try:
        yield tell
    finally:
        if bars.live.is_started:
            bars.stop()


def rest(state: State, seconds: float) -> str:
    """What is said behind the bar: rate, time left, and what is out of the ordinary."""
    rate = state.now / seconds if seconds else 0.0
    parts = [f"{rate:.3g}/s"]
    if rate:
        parts.append(f"{duration(state.open / rate)} left")
    if state.workers > 1:
        parts.append(f"{state.workers} workers")
    if state.replaced:
        parts.append(f"{state.replaced} replaced")
    if state.skipped:
        parts.append(f"{state.skipped} skipped")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """35 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def show_sampled(sampled: Sampled) -> None:
    """What is in the folder now, and how it came there."""
    state = sampled.state
    line = f"{sampled.folder}: {state.done:,} of {state.num:,} pictures"
    if state.now:
        rate = state.now / sampled.seconds
        line += f", {state.now:,} of them drawn now in {duration(sampled.seconds)} ({rate:.3g}/s)"
    typer.echo(line)
    if state.replaced:
        typer.echo(f"{state.replaced} workers failed and were replaced")
    if sampled.reasons:
        index = min(sampled.reasons)
        typer.echo(
            f"{len(sampled.reasons)} prompts could not be drawn and were skipped (--retry-skipped tries them again); "
            f"picture {index}: {sampled.reasons[index]}"
        )
    if sampled.interrupted:
        typer.echo("stopped; the same command goes on from here")


def show_packed(packed: Packed) -> None:
    """What was written."""
    if packed.left_out:
        typer.echo(f"{packed.left_out:,} of {packed.pictures + packed.left_out:,} pictures are not there and left out")
    for path in packed.files[:3]:
        typer.echo(f"saved: {path}")
    if len(packed.files) > 3:
        typer.echo(f"       … {packed.files[-1]} ({len(packed.files)} files)")
