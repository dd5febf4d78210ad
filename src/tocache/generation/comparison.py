"""Both pictures side by side with the map of fresh tokens, or both videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tocache.api import Trace
from tocache.generation.result import Frames, Freshness, Generated, caption
from tocache.plan import ALL
from tocache.plan.draw import pyplot_or_error
from tocache.reports import computed_table

_GAP = 8  # pixels between two videos


def freshness(recorded: Trace) -> Freshness | None:
    """(height, width) share of the steps in which each image token was fresh, from a recorded run.

    The mean of `fresh_by_step` over the steps; a video's frames stand below each other. None where the image tokens
    are no grid. Raises RunError where no run was recorded.
    """
    by_step = fresh_by_step(recorded)
    return None if by_step is None else by_step.mean(axis=0).reshape(-1, by_step.shape[-1])


def fresh_by_step(recorded: Trace) -> Freshness | None:
    """(steps, *grid) share of the layers in which each image token was fresh; grid: (height, width), with frames first.

    The mean over rows, passes and those sites that can compute single tokens, as they really ran; what did not run,
    because a region around it was served, computed nothing. None where the image tokens are no grid. Raises RunError
    where no run was recorded.
    """
    plan = recorded.plan
    shape = plan.anatomies[0].shape
    if shape.grid is None:
        return None
    tokens = shape.tokens["image"]
    computed = computed_table(recorded.record, plan)
    places = [(i, site, plan.anatomies[0].before_image(site)) for i, site in enumerate(plan.sites) if site.rows]
    sites = [(i, site, before) for i, site, before in places if before is not None]
    total: Freshness = np.zeros((plan.steps, tokens))
    for i, site, before in sites:
        for step, number in np.ndindex(*computed.shape[:2]):
            if computed[step, number, i] == ALL:
                total[step] += 1
            elif computed[step, number, i] > 0:
                index = recorded.choices[step, number, site.name]
                counts = np.bincount(index.numpy().ravel(), minlength=before + tokens)
                total[step] += counts[before : before + tokens] / index.shape[0]
    share = total / max(1, computed.shape[1] * len(sites))
    by_step: Freshness = share.reshape(plan.steps, *shape.grid)
    return by_step


def draw_comparison(result: Generated, path: str | Path) -> None:
    """Writes both pictures side by side, and the map of fresh tokens where they differ in it.

    Raises OptionError without matplotlib.
    """
    pyplot = pyplot_or_error("compare")
    assert result.uncached is not None
    share = result.freshness if result.freshness is not None and np.ptp(result.freshness) > 0 else None
    panels = 2 if share is None else 3
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
    if share is not None:
        scale = figure.add_axes((1 - 0.7 / wide, below / high, 0.14 / wide, tall / high))
        _draw_freshness(figure, axes[2], scale, share)
    for axis in axes:
        axis.set_axis_off()
    figure.text(0.5, below / high / 2, caption(result), ha="center", va="center", fontsize=10.5, linespacing=1.5)
    try:
        figure.savefig(path, dpi=max(120, result.image.width / side))
    finally:
        pyplot.close(figure)


def side_by_side(result: Generated) -> Frames:
    """The video without the cache on the left, the one with it on the right."""
    joined = []
    for left, right in zip(result.uncached_frames, result.frames, strict=True):
        frame = Image.new("RGB", (left.width + _GAP + right.width, left.height), "white")
        frame.paste(left, (0, 0))
        frame.paste(right, (left.width + _GAP, 0))
        joined.append(frame)
    return tuple(joined)


def _draw_freshness(figure: Any, axis: Any, scale: Any, share: Freshness) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    image = axis.imshow(share, cmap="viridis", interpolation="nearest", aspect="auto")
    axis.set_title("share of steps in which a token was fresh", fontsize=11)
    bar = figure.colorbar(image, cax=scale, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]))
    narrow = np.ptp(share) < 0.05
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1 if narrow else 0))
    bar.ax.tick_params(labelsize=9)
