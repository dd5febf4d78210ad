"""Draws a batch although some of its prompts cannot be drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tocache.models.architectures import one_line
from tocache.sampling.batches import Batch
from tocache.sampling.drawer import Drawer, fatal
from tocache.sampling.drawn import Pixels

Answer = tuple[dict[int, Pixels], dict[int, str], float]
"""Pixels by row, reasons of the rows that have none, seconds of the call."""


def draw_batch(drawer: Drawer, batch: Batch) -> Answer:
    """The wanted rows of a batch, and why others cannot be drawn.

    Where the call fails, every prompt is tried alone. Those that fail again are replaced by another prompt of the
    batch, so that the others are drawn in a call of the same shape as always and come out the same to the bit. A
    failure that no prompt alone brings about is tried once more, and raised if it stays.

    Raises what `fatal` calls so at once.
    """
    skipped = dict(batch.skipped)
    try:
        return _draw(drawer, batch, skipped)
    except Exception as error:
        if fatal(error):
            raise
    for row in range(len(batch)):
        if row not in skipped and (reason := why_not(drawer, batch, row)) is not None:
            skipped[row] = reason
    return _draw(drawer, batch, skipped)


def why_not(drawer: Drawer, batch: Batch, row: int) -> str | None:
    """Draws one row alone and gives what goes wrong; None where nothing does."""
    try:
        (answer,) = drawer.draw(batch.prompts[row : row + 1], batch.seeds[row : row + 1])
    except Exception as error:
        if fatal(error):
            raise
        return f"{type(error).__name__}: {one_line(error)}"
    return answer if isinstance(answer, str) else None


def _draw(drawer: Drawer, batch: Batch, skipped: dict[int, str]) -> Answer:
    start = time.perf_counter()
    answers: Sequence[Pixels | str] = ()
    if len(skipped) < len(batch):
        answers = drawer.draw(batch.drawable(skipped), batch.seeds)
    seconds = time.perf_counter() - start
    pixels: dict[int, Pixels] = {}
    reasons: dict[int, str] = {}
    for row in batch.wanted:
        answer = skipped[row] if row in skipped else answers[row]
        if isinstance(answer, str):
            reasons[row] = answer
        else:
            pixels[row] = answer
    return pixels, reasons, seconds
