"""One picture or video with the cache, and where it is asked for the same without it beside it."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tocache.api import Trace, enabled, report, trace, watch
from tocache.demo import DEMO_NAMES, load_demo
from tocache.doctor import device_named, synchronize
from tocache.engine.intercept import plain_class
from tocache.engine.record import Record
from tocache.errors import TocacheWarning, UnknownNameError
from tocache.generation.comparison import draw_comparison, freshness, side_by_side
from tocache.generation.media import VIDEOS, check_kind, check_output, save, save_frames
from tocache.generation.result import Frames, Generated, psnr
from tocache.methods import Method, Planned
from tocache.models.architectures import call_arguments, pretrained_pipeline
from tocache.plan import Plan, kind_of, load_plan
from tocache.plan.draw import pyplot_or_error
from tocache.planning import (
    check_count,
    check_guidance,
    check_preset,
    check_seed,
    dtype_name,
    is_demo,
    usual_steps,
)

DEFAULT_MODEL = "demo:text"
_WARM_UP_STEPS = 4
_FPS = 24.0  # of a video, where its model has no usual one

Drawer = Callable[[], tuple[Frames, float]]


@dataclass(frozen=True)
class Progress:
    """A step that has just ended."""

    phase: str  # "warm-up", "without cache" or "with cache"
    step: int  # how many have ended
    steps: int
    kind: str  # full, partial or reuse


Teller = Callable[[Progress], None]


def generate(
    prompt: str | int,
    *,
    output: str | Path,
    model: str | Path | None = None,
    method: Method | Plan | str | Path | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    compare: bool = False,
    resolution: str | None = None,
    aspect_ratio: str | None = None,
    duration: str | None = None,
    storage: str | None = None,
    offload: bool | None = None,
    on_step: Teller | None = None,
) -> Generated:
    """Draws a picture or a video with the cache and writes it to `output`.

    prompt    a text, or for class-conditional models the name or the number of a class
    output    a picture's name such as out.png; a video's ends in .mp4, .gif or .webp
    model     a demo, a folder in diffusers' format or a hub id; None: `DEFAULT_MODEL`
    method    as in `enable`; None is the default of the model's family
    steps     None: the preset's or plan's own, else the pipeline's default
    device    None: the first of cuda, mps, cpu that is there; dtype: bf16, fp16 or fp32, None: bf16 on cuda
    compare   also draw without the cache from the same seed, and write both side by side; pictures with a map of how
              often each token was fresh
    resolution, aspect_ratio, duration   of a video, by the names that its pipeline knows; None: its default
    storage, offload   how features are kept, as in `enable`
    on_step   is called after each step

    Raises UnknownNameError, OptionError, UnsupportedModelError, and what `enable` raises; nothing is written then.
    """
    target = check_output(output)
    if compare and target.suffix.lower() not in VIDEOS:
        pyplot_or_error("compare")
    asked = _asked(method)
    if steps is not None:
        check_count("steps", steps)
    if guidance is not None:
        check_guidance(guidance)
    pipe = load_pipeline(DEFAULT_MODEL if model is None else model, device=device, dtype=dtype)
    size = {"resolution": resolution, "aspect_ratio": aspect_ratio, "num_frames": duration}
    arguments = call_arguments(pipe, prompt, steps=steps or usual_steps(asked), guidance=guidance, size=size)
    check_kind(target, video=makes_videos(pipe))
    if compare and not makes_videos(pipe):
        pyplot_or_error("compare")
    tell = on_step or (lambda progress: None)
    draw = partial(_draw, pipe, arguments, check_seed(seed))
    cached = partial(enabled, pipe, storage=storage, offload=offload)
    uncached = None
    fps = arguments.get("fps", _FPS)
    if compare:
        _warm_up(pipe, cached, asked, arguments, tell)
        uncached = _draw_uncached(pipe, draw, tell)
    with cached(asked), watch(pipe, partial(_tell, tell)):
        traced = compare and not makes_videos(pipe) and not _recording_costs(pipe.device)
        recorded, (frames, seconds) = _traced(pipe, draw) if traced else (None, draw())
        figures = report(pipe)
    if uncached is None:
        save_frames(frames, target, fps)
        return Generated(frames, target, figures, seconds)
    result = Generated(frames, target, figures, seconds, *uncached, psnr=psnr(frames, uncached[0]))
    if makes_videos(pipe):
        save_frames(side_by_side(result), target, fps)
        return result
    if recorded is None:
        with cached(asked):
            recorded, _ = _traced(pipe, draw)
    result = replace(result, freshness=freshness(recorded))
    save(partial(draw_comparison, result), target)
    return result


def makes_videos(pipe: Any) -> bool:
    """Whether a pipeline's call gives videos: it is asked for a number of frames."""
    return "num_frames" in inspect.signature(plain_class(pipe).__call__).parameters


def load_pipeline(model: str | Path, *, device: str | None = None, dtype: str | None = None) -> Any:
    """The pipeline of a demo, a folder in diffusers' format or a hub id, without its progress bar.

    Raises UnknownNameError and OptionError, which say what a model may be.
    """
    place, demo = device_named(device), is_demo(model)
    usual = "bfloat16" if place.type == "cuda" and not demo else "float32"
    chosen = getattr(torch, usual if dtype is None else dtype_name(dtype))
    try:
        pipe = load_demo(str(model)) if demo else pretrained_pipeline(model, chosen)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; demos: {', '.join(DEMO_NAMES)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place, chosen)


def _asked(method: Method | Plan | str | Path | None) -> Method | Plan | str | None:
    """`method` with a plan file read, and the name of a preset looked up, before anything is loaded."""
    if isinstance(method, Path) or (isinstance(method, str) and method.endswith(".json")):
        return Planned(load_plan(method))
    return check_preset(method) if isinstance(method, str) else method


def _draw(pipe: Any, arguments: dict[str, Any], seed: int) -> tuple[Frames, float]:
    """The picture or video, and the seconds it took."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that a seed means the same on every device
    synchronize(pipe.device)
    start = time.perf_counter()
    output = pipe(**arguments, generator=generator)
    drawn = output.frames[0] if makes_videos(pipe) else output.images[:1]
    synchronize(pipe.device)
    return tuple(drawn), time.perf_counter() - start


def _draw_uncached(pipe: Any, draw: Drawer, tell: Teller) -> tuple[Frames, float]:
    """The same without a cache; steps are told by the transformer's forwards."""
    ended = 0

    def count(*_: object) -> None:
        nonlocal ended
        ended += 1
        steps = len(pipe.scheduler.timesteps)
        tell(Progress("without cache", min(ended, steps), steps, "full"))

    hook = pipe.transformer.register_forward_hook(count)
    try:
        return draw()
    finally:
        hook.remove()


def _warm_up(
    pipe: Any, cached: Callable[..., Any], asked: Method | Plan | str | None, arguments: dict[str, Any], tell: Teller
) -> None:
    """A few cached steps, of which the first is full: what is loaded or compiled once is not measured."""
    few = min(_WARM_UP_STEPS, arguments.get("num_inference_steps", _WARM_UP_STEPS))
    plan = asked.given if isinstance(asked, Planned) else asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TocacheWarning)  # that so few steps save little
        with cached(plan, resample=True), watch(pipe, partial(_tell, tell, phase="warm-up")):
            _draw(pipe, arguments | {"num_inference_steps": few}, seed=0)


def _recording_costs(device: torch.device) -> bool:
    """Whether noting the choices would slow what is measured, as copies off an accelerator do."""
    return device.type != "cpu"


def _traced(pipe: Any, draw: Drawer) -> tuple[Trace, tuple[Frames, float]]:
    with trace(pipe) as recorded:
        return recorded, draw()


def _tell(tell: Teller, record: Record, phase: str = "with cache") -> None:
    assert record.plan is not None
    step = record.steps - 1
    amounts = [row for (at, _), row in record.computed.items() if at == step]
    if amounts:
        tell(Progress(phase, record.steps, record.plan.steps, kind_of(np.array(amounts))))
