"""The picture of `sensitivity`: what serving each layer in each step costs the picture, and what a step adds to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocache.analysis.pictures.style import COLOURS, drawing, heat, layers_of, open_frame, plain_ticks, subtitle

if TYPE_CHECKING:
    from tocache.analysis.sensitivity import Sensitivity


def draw_sensitivity(found: Sensitivity, path: Path) -> None:
    """A map of steps × blocks for each kind of site; beside them the gain of each step and the kinds compared."""
    from matplotlib.colors import LogNorm

    shown = layers_of(found.sites)
    loss = 100 * found.loss[1:]
    low, high = np.percentile(loss[loss > 0], (1, 99.5)) if (loss > 0).any() else (1e-3, 1.0)
    scale = LogNorm(low, max(high, 1.5 * low), clip=True)
    with drawing(path, "sensitivity", (11, max(4.6, 1.2 + 1.7 * len(shown)))) as (_, figure):
        left, right = figure.subfigures(1, 2, width_ratios=(1.7, 1))
        axes = left.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axis, layers in zip(axes, shown, strict=True):
            image = heat(axis, loss[:, list(layers.members)], layers.blocks, scale, first=1)
            axis.set_ylabel(f"{layers.name}\nblock")
            _mark_probes(axis, found, list(layers.members))
        axes[-1].set_xlabel("step in which one layer is served (dots: measured to the end; the others estimated)")
        bar = left.colorbar(image, ax=list(axes), pad=0.02)
        plain_ticks(bar.ax.yaxis)
        bar.set_label("root mean squared error of the picture, %")
        upper, lower = right.subplots(2, 1)
        _kinds(upper, found)
        _gain(lower, found)
        figure.suptitle(f"One layer in one step from the cache: {subtitle(found.about)}")


def _mark_probes(axis: Any, found: Sensitivity, members: list[int]) -> None:
    steps, rows = np.nonzero(np.isfinite(found.probed[:, members]))
    if len(steps) < found.probed[1:, members].size:
        axis.plot(steps, rows, ".", color="white", markersize=3.5, markeredgecolor="black", markeredgewidth=0.3)


def _kinds(axis: Any, found: Sensitivity) -> None:
    steps = np.arange(1, len(found.error))
    for layers, colour in zip(layers_of(found.sites), COLOURS * 3, strict=False):
        mean = 100 * found.loss[1:, list(layers.members)].mean(axis=1)
        axis.plot(steps, mean, color=colour, label=layers.name, linewidth=1.4)
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_ylabel("error of the picture, %")
    axis.set_title("mean over blocks")
    axis.legend(frameon=False, fontsize=8)
    axis.xaxis.get_major_locator().set_params(integer=True)
    open_frame(axis)


def _gain(axis: Any, found: Sensitivity) -> None:
    """What an error of the answer becomes in the picture: all probes as dots, their geometric mean as a line."""
    steps = np.arange(1, len(found.error))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = found.probed / found.error
    at, _ = np.nonzero(np.isfinite(ratio))
    axis.plot(steps, found.gain[1:], color=COLOURS[0], linewidth=1.4)
    axis.plot(at, ratio[np.isfinite(ratio)], ".", color=COLOURS[1], markersize=4)
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_ylabel("error of picture ÷ of answer")
    axis.set_xlabel("step")
    axis.set_title("what a step's error becomes by the end")
    axis.xaxis.get_major_locator().set_params(integer=True)
    open_frame(axis)
