"""One picture with the cache, and where it is asked for the same picture without it beside it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tocache.api import Trace, enabled, report, trace, watch
from tocache.demo import DEMO_NAMES, load_demo
from tocache.doctor import device_named, synchronize
from tocache.engine.record import Record
from tocache.errors import OptionError, TocacheWarning, UnknownNameError
from tocache.methods import Method, Planned
from tocache.models.architectures import call_arguments, one_line, pretrained_pipeline
from tocache.plan import ALL, Plan, kind_of, load_plan
from tocache.plan.draw import pyplot_or_error
from tocache.planning import (
    check_count,
    check_guidance,
    check_preset,
    check_seed,
    dtype_name,
    flops_text,
    is_demo,
    usual_steps,
)
from tocache.reports import Report, computed_table

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_MODEL = "demo:random-text"
_WARM_UP_STEPS = 4

Freshness = NDArray[np.float64]
Drawer = Callable[[], tuple["Image", float]]


@dataclass(frozen=True)
class Progress:
    """A step that has just ended."""

    phase: str  # "warm-up", "without cache" or "with cache"
    step: int  # how many have ended
    steps: int
    kind: str  # full, partial or reuse


Teller = Callable[[Progress], None]


@dataclass(frozen=True)
class Generated:
    """A picture, what the cache did for it, and with `compare` what the model draws without the cache.

    Seconds are wall-clock of the whole call, from the prompt to the picture. The first call of a process also pays
    for loading and compiling kernels; `compare` runs a few steps of both kinds before it measures.
    """

    image: Image
    output: Path
    report: Report
    seconds: float
    uncached: Image | None = None
    uncached_seconds: float | None = None
    psnr: float | None = None  # dB between the two pictures, infinite where they are equal
    freshness: Freshness | None = None  # (height, width) in tokens: share of the steps in which each was fresh

    @property
    def speedup(self) -> float | None:
        """Seconds without the cache ÷ seconds with it."""
        return None if self.uncached_seconds is None else self.uncached_seconds / self.seconds


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
    on_step: Teller | None = None,
) -> Generated:
    """Draws a picture with the cache and writes it to `output`.

    prompt    a text, or for class-conditional models the name or the number of a class
    model     a demo, a folder in diffusers' format or a hub id; None: `DEFAULT_MODEL`
    method    as in `enable`; None is the default of the model's family
    steps     None: the preset's or plan's own, else the pipeline's default
    device    None: the first of cuda, mps, cpu that is there; dtype: bf16, fp16 or fp32, None: bf16 on cuda
    compare   also draw without the cache from the same seed, and write both side by side with a map of how often
              each token was fresh
    on_step   is called after each step

    Raises UnknownNameError, OptionError, UnsupportedModelError, and what `enable` raises; nothing is written then.
    """
    target = _check_output(output)
    if compare:
        pyplot_or_error("compare")
    asked = _asked(method)
    if steps is not None:
        check_count("steps", steps)
    if guidance is not None:
        check_guidance(guidance)
    pipe = load_pipeline(DEFAULT_MODEL if model is None else model, device=device, dtype=dtype)
    arguments = call_arguments(pipe, prompt, steps=steps or usual_steps(asked), guidance=guidance)
    tell = on_step or (lambda progress: None)
    draw = partial(_draw, pipe, arguments, check_seed(seed))
    uncached = None
    if compare:
        _warm_up(pipe, asked, arguments, tell)
        uncached = _draw_uncached(pipe, draw, tell)
    with enabled(pipe, asked), watch(pipe, partial(_tell, tell)):
        traced = compare and not _recording_costs(pipe.device)
        recorded, (image, seconds) = _traced(pipe, draw) if traced else (None, draw())
        figures = report(pipe)
    if uncached is None:
        _save(image.save, target)
        return Generated(image, target, figures, seconds)
    if recorded is None:
        with enabled(pipe, asked):
            recorded, _ = _traced(pipe, draw)
    result = Generated(
        image, target, figures, seconds, *uncached, psnr=psnr(image, uncached[0]), freshness=freshness(recorded)
    )
    _save(partial(draw_comparison, result), target)
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


def psnr(image: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB, computed in float64; infinite where they are equal."""
    a, b = (np.asarray(picture.convert("RGB"), dtype=np.float64) for picture in (image, reference))
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def freshness(recorded: Trace) -> Freshness | None:
    """(height, width) share of the steps in which each image token was fresh, from a recorded run.

    The mean over rows, passes and those sites that can compute single tokens, as they really ran. None where the
    image tokens are no grid. Raises RunError where no run was recorded.
    """
    plan = recorded.plan
    shape = plan.anatomies[0].shape
    if shape.grid is None:
        return None
    tokens = shape.tokens["image"]
    computed = computed_table(recorded.record, plan)
    total, seen = np.zeros(tokens), 0
    for i, site in enumerate(plan.sites):
        if not site.rows or site.group == "text":
            continue
        before = shape.tokens[site.group] - tokens  # text tokens that stand before the image's in a joint stream
        for step, number in np.ndindex(*computed.shape[:2]):
            seen += 1
            if computed[step, number, i] == ALL:
                total += 1
            elif computed[step, number, i] > 0:
                index = recorded.choices[step, number, site.name]
                counts = np.bincount(index.numpy().ravel(), minlength=before + tokens)
                total += counts[before:] / index.shape[0]
    share: Freshness = (total / max(1, seen)).reshape(-1, shape.grid[-1])
    return share


def draw_comparison(result: Generated, path: str | Path) -> None:
    """Writes both pictures and the map of fresh tokens side by side. Raises OptionError without matplotlib."""
    pyplot = pyplot_or_error("compare")
    assert result.uncached is not None
    panels = 2 if result.freshness is None else 3
    side, gap, below, above = 4.0, 0.12, 0.75, 0.35  # inches
    tall = side * result.image.height / result.image.width
    wide, high = panels * (side + gap) + gap + (0.7 if panels == 3 else 0), below + tall + above
    figure = pyplot.figure(figsize=(wide, high), facecolor="white")
    axes = [
        figure.add_axes(((gap + k * (side + gap)) / wide, below / high, side / wide, tall / high))
        for k in range(panels)
    ]
    titles = (f"without cache, {result.uncached_seconds:.3g} s", f"with cache, {result.seconds:.3g} s")
    for axis, picture, title in zip(axes, (result.uncached, result.image), titles, strict=False):
        axis.imshow(picture, interpolation="antialiased", aspect="auto")
        axis.set_title(title, fontsize=11)
    if result.freshness is not None:
        scale = figure.add_axes((1 - 0.7 / wide, below / high, 0.14 / wide, tall / high))
        _draw_freshness(figure, axes[2], scale, result.freshness)
    for axis in axes:
        axis.set_axis_off()
    figure.text(0.5, below / high / 2, caption(result), ha="center", va="center", fontsize=10.5, linespacing=1.5)
    try:
        figure.savefig(path, dpi=max(120, result.image.width / side))
    finally:
        pyplot.close(figure)


def caption(result: Generated) -> str:
    """What the comparison shows, in two lines: method and model; latency, FLOPs and PSNR."""
    figures = result.report
    lines = [f"{figures.method} on {figures.model}, {figures.steps} steps"]
    if result.uncached_seconds is not None and result.psnr is not None and figures.flops_computed is not None:
        equal = result.psnr == float("inf")
        parts = [
            f"{result.uncached_seconds:.3g} s → {result.seconds:.3g} s ({result.speedup:.2f}× as fast)",
            f"{flops_text(figures.flops_uncached or 0)} → {flops_text(figures.flops_computed)} "
            f"({figures.speedup:.2f}× fewer)",
            "identical pictures" if equal else f"PSNR {result.psnr:.1f} dB",
        ]
        lines.append(" · ".join(parts))
    return "\n".join(lines)


def _asked(method: Method | Plan | str | Path | None) -> Method | Plan | str | None:
    """`method` with a plan file read, and the name of a preset looked up, before anything is loaded."""
    if isinstance(method, Path) or (isinstance(method, str) and method.endswith(".json")):
        return Planned(load_plan(method))
    return check_preset(method) if isinstance(method, str) else method


def _draw(pipe: Any, arguments: dict[str, Any], seed: int) -> tuple[Image, float]:
    """The picture, and the seconds it took."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that a seed means the same on every device
    synchronize(pipe.device)
    start = time.perf_counter()
    image: Image = pipe(**arguments, generator=generator).images[0]
    synchronize(pipe.device)
    return image, time.perf_counter() - start


def _draw_uncached(pipe: Any, draw: Drawer, tell: Teller) -> tuple[Image, float]:
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


def _warm_up(pipe: Any, asked: Method | Plan | str | None, arguments: dict[str, Any], tell: Teller) -> None:
    """A few cached steps, of which the first is full: what is loaded or compiled once is not measured."""
    few = min(_WARM_UP_STEPS, arguments.get("num_inference_steps", _WARM_UP_STEPS))
    plan = asked.given if isinstance(asked, Planned) else asked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TocacheWarning)  # that so few steps save little
        with enabled(pipe, plan, resample=True), watch(pipe, partial(_tell, tell, phase="warm-up")):
            _draw(pipe, arguments | {"num_inference_steps": few}, seed=0)


def _recording_costs(device: torch.device) -> bool:
    """Whether noting the choices would slow what is measured, as copies off an accelerator do."""
    return device.type != "cpu"


def _traced(pipe: Any, draw: Drawer) -> tuple[Trace, tuple[Image, float]]:
    with trace(pipe) as recorded:
        return recorded, draw()


def _tell(tell: Teller, record: Record, phase: str = "with cache") -> None:
    assert record.plan is not None
    step = record.steps - 1
    amounts = [row for (at, _), row in record.computed.items() if at == step]
    if amounts:
        tell(Progress(phase, record.steps, record.plan.steps, kind_of(np.array(amounts))))


def _draw_freshness(figure: Any, axis: Any, scale: Any, share: Freshness) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    image = axis.imshow(share, cmap="viridis", interpolation="nearest", aspect="auto")
    axis.set_title("share of steps in which a token was fresh", fontsize=11)
    bar = figure.colorbar(image, cax=scale, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]))
    narrow = np.ptp(share) < 0.05
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1 if narrow else 0))
    bar.ax.tick_params(labelsize=9)


def _check_output(output: str | Path) -> Path:
    from PIL import Image

    target = Path(output)
    if target.suffix.lower() not in Image.registered_extensions():
        raise OptionError(f"output={str(output)!r} is not allowed; allowed: a picture's name, such as out.png")
    if not target.parent.is_dir():
        raise OptionError(f"output={str(output)!r}: there is no folder {str(target.parent)!r}")
    return target


def _save(save: Callable[[Path], None], target: Path) -> None:
    try:
        save(target)
    except (OSError, ValueError) as error:
        raise OptionError(f"{target}: cannot be written: {one_line(error)}") from error
