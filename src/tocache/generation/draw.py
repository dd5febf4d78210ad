"""One picture or video with the cache, and where it is asked for the same without it beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tocache.api import enabled, report, trace
from tocache.demo import DEMO_NAMES, load_demo
from tocache.doctor import device_named
from tocache.errors import UnknownNameError
from tocache.generation.comparison import draw_comparison, freshness, side_by_side
from tocache.generation.media import VIDEOS, check_kind, check_output, save, save_frames
from tocache.generation.result import Generated, psnr
from tocache.generation.runs import (
    Teller,
    draw_frames,
    makes_videos,
    recording_costs,
    told_cached,
    told_uncached,
    warm_up,
)
from tocache.methods import Method, Planned
from tocache.models.architectures import call_arguments, pretrained_pipeline
from tocache.plan import Plan, load_plan
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
FPS = 24.0  # of a video, where its model has no usual one


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
    draw = partial(draw_frames, pipe, arguments, check_seed(seed))
    cached = partial(enabled, pipe, storage=storage, offload=offload)
    uncached = recorded = None
    fps = arguments.get("fps", FPS)
    mapped = compare and not makes_videos(pipe)
    if compare:
        warm_up(pipe, cached, asked, arguments, tell)
        with told_uncached(pipe, tell):
            uncached = draw()
    with cached(asked), told_cached(pipe, tell):
        if mapped and not recording_costs(pipe.device):
            with trace(pipe) as recorded:
                frames, seconds = draw()
        else:
            frames, seconds = draw()
        figures = report(pipe)
    if uncached is None:
        save_frames(frames, target, fps)
        return Generated(frames, target, figures, seconds)
    result = Generated(frames, target, figures, seconds, *uncached, psnr=psnr(frames, uncached[0]))
    if not mapped:
        save_frames(side_by_side(result), target, fps)
        return result
    if recorded is None:
        with cached(asked), trace(pipe) as recorded:
            draw()
    result = replace(result, freshness=freshness(recorded))
    save(partial(draw_comparison, result), target)
    return result


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
