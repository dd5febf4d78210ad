"""Who draws: this process itself; `on_ray` has the same for many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tocache.errors import SamplingError, TocacheError
from tocache.models.architectures import one_line
from tocache.sampling.batches import Batch
from tocache.sampling.drawer import Drawer
from tocache.sampling.drawn import Drawn, File, Pixels, encode
from tocache.sampling.isolate import draw_batch

ENCODERS = 4
"""Threads that turn pixels into files while the next batch is drawn."""
_WAITING = 2  # batches whose files may be being made

Load = Callable[[], Drawer]
"""Makes what draws; on Ray it is called on every worker, so it is picklable."""


class Workers(Protocol):
    """Draws batches, in whatever order they become ready."""

    @property
    def count(self) -> int:
        """How many draw now."""

    @property
    def replaced(self) -> int:
        """How many failed and were replaced so far."""

    def about(self) -> Mapping[str, Any]:
        """What the bits of the pictures depend on; waits until the first worker is ready."""

    def draw(self, batches: Iterable[Batch]) -> Iterator[Drawn]:
        """Draws all of `batches`, which are asked for only when somebody is free."""

    def finished(self) -> list[Drawn]:
        """After an interrupt: what was drawn, and not yet given away."""

    def close(self) -> None:
        """Lets everything go."""


class Here:
    """Draws in this process; files are made beside the drawing."""

    count, replaced = 1, 0

    def __init__(self, load: Load) -> None:
        self._drawer = load()
        self._encoders = ThreadPoolExecutor(ENCODERS, "encoder")
        self._waiting: deque[Encoding] = deque()

    def about(self) -> Mapping[str, Any]:
        return self._drawer.about()

    def draw(self, batches: Iterable[Batch]) -> Iterator[Drawn]:
        for batch in batches:
            self._waiting.append(self._begin(batch))
            while len(self._waiting) > _WAITING or (self._waiting and self._waiting[0].done):
                yield self._first()
        while self._waiting:
            yield self._first()

    def finished(self) -> list[Drawn]:
        return [self._first() for _ in range(len(self._waiting))]

    def close(self) -> None:
        self._encoders.shutdown(cancel_futures=True)

    def _begin(self, batch: Batch) -> Encoding:
        try:
            return Encoding(self._drawer, batch, self._encoders)
        except TocacheError:
            raise
        except Exception as error:
            last = batch.start + len(batch) - 1
            raise SamplingError(
                f"pictures {batch.start} … {last} cannot be drawn: {type(error).__name__}: {one_line(error)}"
            ) from error

    def _first(self) -> Drawn:
        drawn = self._waiting[0].wait()
        self._waiting.popleft()  # not before: an interrupt while waiting loses nothing
        return drawn


class Encoding:
    """A batch that was drawn and whose files are being made."""

    def __init__(self, drawer: Drawer, batch: Batch, encoders: ThreadPoolExecutor) -> None:
        self._batch = batch
        pixels, self._skipped, self._seconds = draw_batch(drawer, batch)
        rows = list(pixels)
        self._parts: list[Future[dict[int, File]]] = [
            encoders.submit(_encode, {row: pixels[row] for row in rows[first::ENCODERS]}, drawer.fps)
            for first in range(min(ENCODERS, len(rows)))
        ]

    @property
    def done(self) -> bool:
        return all(part.done() for part in self._parts)

    def wait(self) -> Drawn:
        files = {row: file for part in self._parts for row, file in part.result().items()}
        return Drawn(self._batch, files, self._skipped, self._seconds)


def _encode(pixels: Mapping[int, Pixels], fps: float | None) -> dict[int, File]:
    return {row: encode(picture, fps) for row, picture in pixels.items()}
