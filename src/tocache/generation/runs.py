"""One call of a pipeline with or without a cache: its frames, its seconds, and who is told of its steps."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from tocache.api import watch
from tocache.doctor import synchronize
from tocache.engine.intercept import plain_class
from tocache.engine.record import Record
from tocache.errors import TocacheWarning
from tocache.generation.result import Frames
from tocache.methods import Method, Planned
from tocache.plan import Plan, kind_of

WARM_UP, UNCACHED, CACHED = "warm-up", "without cache", "with cache"
_WARM_UP_STEPS = 4


@dataclass(frozen=True)
class Progress:
    """A step that has just ended."""

    phase: str  # "warm-up", "without cache" or "with cache"
    step: int  # how many have ended
    steps: int
    kind: str  # full, partial or reuse


Teller = Callable[[Progress], None]
"""Is told of every step. What it raises ends the run: pipeline and cache are then as after any other run."""


def makes_videos(pipe: Any) -> bool:
    """Whether a pipeline's call gives videos: it is asked for a number of frames."""
    return "num_frames" in inspect.signature(plain_class(pipe).__call__).parameters


def seeded(seed: int) -> torch.Generator:
    """The noise of a seed; on the CPU, so that a seed means the same on every device."""
    return torch.Generator().manual_seed(seed)


def frames_of(pipe: Any, output: Any) -> Frames:
    """The first picture or video of what a pipeline answered."""
    return tuple(output.frames[0] if makes_videos(pipe) else output.images[:1])


def draw_frames(pipe: Any, arguments: dict[str, Any], seed: int) -> tuple[Frames, float]:
    """The picture or video, and the seconds it took."""
    synchronize(pipe.device)
    start = time.perf_counter()
    frames = frames_of(pipe, pipe(**arguments, generator=seeded(seed)))
    synchronize(pipe.device)
    return frames, time.perf_counter() - start


@contextmanager
def told_uncached(pipe: Any, tell: Teller) -> Iterator[None]:
    """Within it the steps of a pipeline without a cache are told, by its transformer's forwards."""
    ended = 0

    def count(*_: object) -> None:
        nonlocal ended
        ended += 1
        steps = len(pipe.scheduler.timesteps)
        tell(Progress(UNCACHED, min(ended, steps), steps, "full"))

    hook = pipe.transformer.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()


def told_cached(pipe: Any, tell: Teller, phase: str = CACHED) -> AbstractContextManager[None]:
    """Within it the steps of an enabled pipeline are told."""
    return watch(pipe, partial(_tell, tell, phase))


def warm_up(
    pipe: Any, cached: Callable[..., Any], asked: Method | Plan | str | None, arguments: dict[str, Any], tell: Teller
) -> None:
    """A few cached steps, of which the first is full: what is loaded or compiled once is not measured.

    `cached` is `enabled` for this pipeline, with the options that are not the method's.
    """
    few = min(_WARM_UP_STEPS, arguments.get("num_inference_steps", _WARM_UP_STEPS))
    plan = asked.given if isinstance(asked, Planned) else asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TocacheWarning)  # that so few steps save little
        with cached(plan, resample=True), told_cached(pipe, tell, WARM_UP):
            draw_frames(pipe, arguments | {"num_inference_steps": few}, seed=0)


def recording_costs(device: torch.device) -> bool:
    """Whether noting the choices would slow what is measured, as copies off an accelerator do."""
    return device.type != "cpu"


def _tell(tell: Teller, phase: str, record: Record) -> None:
    assert record.plan is not None
    step = record.steps - 1
    amounts = [row for (at, _), row in record.computed.items() if at == step]
    if amounts:
        tell(Progress(phase, record.steps, record.plan.steps, kind_of(np.array(amounts))))
