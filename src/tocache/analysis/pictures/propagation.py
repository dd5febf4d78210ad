"""The picture of `propagation`: the error by layer, its distribution over tokens, where on the image it is large."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocache.analysis.pictures.style import COLOURS, MAP, drawing, on_grid, open_frame, plain_ticks, subtitle
from tocache.analysis.places import spaced

if TYPE_CHECKING:
    from tocache.analysis.propagation import Propagation

_MAPS = 4  # layers of which a map is drawn


def draw_propagation(found: Propagation, path: Path) -> None:
    """Above: error by layer, tokens as boxes, and the share that stays where it was. Below: maps over the image."""
    layers = spaced(len(found.sites), _MAPS)
    grid = found.shape if len(found.shape) > 1 else None
    rows = len(found.steps) if grid is not None else 0
    with drawing(path, "propagation", (11, 4.0 + 1.9 * rows)) as (_, figure):
        above, *below = figure.subfigures(2 if rows else 1, 1, squeeze=False, height_ratios=_heights(rows))[:, 0]
        left, right = above.subplots(1, 2, width_ratios=(1.7, 1))
        _errors(left, found)
        _stays(right, found)
        above.suptitle(f"The same noise on one token at a time: {subtitle(found.about)}")
        if below:
            _maps(below[0], found, layers)


def _heights(rows: int) -> tuple[float, ...]:
    return (3.4, 1.9 * rows + 0.6) if rows else (1.0,)


def _errors(axis: Any, found: Propagation) -> None:
    """A box over tokens for each step and layer."""
    count, places = len(found.steps), np.arange(len(found.sites))
    width = 0.8 / count
    for k, (step, colour) in enumerate(zip(found.steps, COLOURS, strict=False)):
        boxes = axis.boxplot(
            100 * found.error[k].T,
            positions=places + (k - (count - 1) / 2) * width,
            widths=0.8 * width,
            whis=(0, 100),
            showcaps=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.55},
            whiskerprops={"color": colour},
            medianprops={"color": "black", "linewidth": 1.2},
        )
        boxes["boxes"][0].set_label(f"step {step}")
    axis.set_yscale("log")
    plain_ticks(axis.yaxis)
    axis.set_ylabel("error of the model's answer, %")
    axis.set_xticks(places, _names(found))
    axis.set_xlabel("layer that gets the noise")
    axis.set_title("error at the output: all tokens between the ends of a line, half of them in the box")
    axis.legend(frameon=False, fontsize=8)
    open_frame(axis)


def _stays(axis: Any, found: Propagation) -> None:
    places = np.arange(len(found.sites))
    for own, ratio, step, colour in zip(found.own, found.ratio, found.steps, COLOURS, strict=False):
        if np.isfinite(own).all():
            axis.plot(places, 100 * own.mean(axis=1), color=colour, marker="o", markersize=3.5, label=f"step {step}")
        else:
            axis.plot(places, ratio, color=colour, marker="o", markersize=3.5, label=f"step {step}")
    placed = np.isfinite(found.own).all()
    axis.set_title("share of it at the token's own place" if placed else "largest ÷ smallest error of a token")
    axis.set_ylabel("% of the squared error" if placed else "times")
    axis.set_ylim(0, 104 if placed else None)
    every = max(1, len(places) // 8)
    axis.set_xticks(places[::every], _names(found)[::every])
    axis.set_xlabel("layer that gets the noise")
    open_frame(axis)


def _maps(figure: Any, found: Propagation, layers: list[int]) -> None:
    """Rows are steps; the first column is what was drawn."""
    axes = figure.subplots(len(found.steps), len(layers) + 1, squeeze=False)
    picture = found.pictures[0].transpose(1, 2, 0)  # (3, H, W) -> (H, W, 3)
    for k, step in enumerate(found.steps):
        axes[k, 0].imshow(picture if len(found.shape) == 2 else np.concatenate([picture] * found.shape[0], axis=1))
        axes[k, 0].set_ylabel(f"step {step}")
        for axis, layer in zip(axes[k, 1:], layers, strict=True):
            relative = found.error[k, layer] / found.error[k, layer].mean()
            image = axis.imshow(on_grid(relative, found.shape), cmap=MAP, interpolation="nearest")
            bar = figure.colorbar(image, ax=axis, shrink=0.85, pad=0.03)
            bar.ax.tick_params(labelsize=7)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].set_title("drawn")
    for axis, layer in zip(axes[0, 1:], layers, strict=True):
        site = found.sites[layer]
        axis.set_title(f"{site.kind}, block {site.block}")
    figure.suptitle("error by the place of the noise, as a multiple of the layer's mean", fontsize=9.5)


def _names(found: Propagation) -> list[str]:
    """Blocks by number; where several stacks or kinds have the same, the kind as well."""
    numbers = [str(site.block) for site in found.sites]
    if len(set(numbers)) == len(numbers):
        return numbers
    several = len({site.kind for site in found.sites}) > 1
    return [f"{site.kind if several else site.stack[:4]} {site.block}" for site in found.sites]
