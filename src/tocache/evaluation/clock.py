"""Seconds of a pipeline's call, and of the denoising loop in it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from tocache.doctor import synchronize


@dataclass(frozen=True)
class Seconds:
    """Wall-clock of one call. `loop` runs from the scheduler's timesteps to the end of its last step."""

    loop: float | None  # None where the pipeline's scheduler was never asked for a step
    total: float
    steps: tuple[float, ...] = ()  # each from the end of the one before; together they are the loop


def timed(pipe: Any, arguments: Mapping[str, Any]) -> tuple[Any, Seconds]:
    """The output of `pipe(**arguments)`, and how long it took.

    The scheduler tells when the loop begins and ends, whatever else follows it. On CUDA its steps leave events on the
    stream, which are read after the call, so that the clock does not hold up the loop.
    """
    marks = _Marks(pipe.device)
    with told(pipe.scheduler, marks.begin, marks.end):
        synchronize(pipe.device)
        start = time.perf_counter()
        output = pipe(**arguments)
        synchronize(pipe.device)
        total = time.perf_counter() - start
    steps = marks.distances()
    return output, Seconds(sum(steps) if steps else None, total, steps)


@contextmanager
def told(scheduler: Any, begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Calls `begin` after the scheduler's timesteps are set, and `end` after each of its steps, in a with-block."""
    watched = {"set_timesteps": begin, "step": end}
    for name, mark in watched.items():
        # on the instance, so that the class's own method runs, and with it what else follows this scheduler
        scheduler.__dict__[name] = _then(getattr(scheduler, name), mark)
    try:
        yield
    finally:
        for name in watched:
            scheduler.__dict__.pop(name, None)


@dataclass
class _Marks:
    """When the loop began, and when each of its steps ended: seconds, or events of a CUDA stream."""

    device: torch.device
    times: list[Any] = field(default_factory=list)
    _stream: bool = field(init=False)

    def __post_init__(self) -> None:
        self._stream = self.device.type == "cuda"

    def begin(self) -> None:
        self.times = [self._now()]

    def end(self) -> None:
        if self.times:
            self.times.append(self._now())

    def distances(self) -> tuple[float, ...]:
        if self._stream:
            return tuple(float(a.elapsed_time(b)) / 1e3 for a, b in pairwise(self.times))
        return tuple(b - a for a, b in pairwise(self.times))

    def _now(self) -> Any:
        if self._stream:
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            return event
        synchronize(self.device)
        return time.perf_counter()


def _then(call: Any, mark: Any) -> Any:
    @functools.wraps(call)  # pipelines inspect the signatures of set_timesteps and step
    def marked(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        mark()
        return result

    return marked
