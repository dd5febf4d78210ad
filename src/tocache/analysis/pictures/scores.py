"""The picture of `scores`: how well each of them ranks tokens, by kind of layer, and two maps to see it by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocache.analysis.pictures.style import COLOURS, MAP, drawing, on_grid, open_frame, subtitle

if TYPE_CHECKING:
    from tocache.analysis.scores import Scores


def draw_scores(found: Scores, path: Path) -> None:
    """Left: correlation by score. Middle: benefit captured. Right: the benefit over the image, and how it is spread."""
    with drawing(path, "scores", (11, 4.6)) as (_, figure):
        if len(found.shape) > 1:
            correlation, captured, spread, places = figure.subplots(1, 4, width_ratios=(1.35, 1, 1, 1))
            _map(figure, places, found)
        else:
            correlation, captured, spread = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
        _correlation(correlation, found)
        _captured(captured, found)
        _benefit(spread, found)
        figure.suptitle(f"Scores against what computing a token really brings: {subtitle(found.about)}")


def _correlation(axis: Any, found: Scores) -> None:
    """Means with their intervals as bars, kinds of layers as dots."""
    rows = found.summary()[::-1]
    heights = np.arange(len(rows))
    means = np.array([mean for _, mean, _, _, _ in rows])
    ends = np.array([(mean - low, high - mean) for _, mean, low, high, _ in rows]).T
    axis.barh(heights, means, xerr=np.maximum(ends, 0), color="#c6d4e1", ecolor="0.35", height=0.7, capsize=2)
    kinds = [found.sites[i].kind for _, _, i in found.places]
    for kind, colour in zip(dict.fromkeys(kinds), COLOURS, strict=False):
        members = [k for k, other in enumerate(kinds) if other == kind]
        dots = [float(np.nanmean(found.correlation[name][members])) for name, *_ in rows]
        axis.plot(dots, heights, "o", color=colour, markersize=4.5, label=kind)
    axis.axvline(0, color="0.5", linewidth=0.8)
    axis.set_yticks(heights, [name for name, *_ in rows])
    axis.set_title("rank correlation with the benefit")
    axis.set_xlabel("Spearman's ρ, mean and 95% interval")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    open_frame(axis)


def _captured(axis: Any, found: Scores) -> None:
    rows = found.summary()[::-1]
    heights = np.arange(len(rows))
    axis.barh(heights, [100 * share for *_, share in rows], color=COLOURS[2], alpha=0.6, height=0.7)
    axis.axvline(100, color="0.5", linewidth=0.8, linestyle="--")
    axis.axvline(0, color="0.5", linewidth=0.8)
    axis.set_yticks(heights, [])
    axis.set_title("benefit of the best quarter\nthat its choice captures")
    axis.set_xlabel("%")
    open_frame(axis)


def _benefit(axis: Any, found: Scores) -> None:
    """Tokens in order of their benefit, each place a thin line, the mean a thick one."""
    ordered = -np.sort(-100 * found.benefit.reshape(-1, found.benefit.shape[2]), axis=1)
    tokens = 100 * (np.arange(ordered.shape[1]) + 0.5) / ordered.shape[1]
    axis.plot(tokens, ordered.T, color=COLOURS[0], alpha=0.12, linewidth=0.7)
    axis.plot(tokens, ordered.mean(axis=0), color=COLOURS[1], linewidth=2)
    axis.axhline(0, color="0.5", linewidth=0.8)
    low, high = np.percentile(ordered, (0.5, 99.5))
    axis.set_ylim(low, high)
    axis.set_title("what one token brings\n(% of the step's squared error)")
    axis.set_xlabel("tokens, best first, %")
    open_frame(axis)


def _map(figure: Any, axis: Any, found: Scores) -> None:
    """The mean benefit over all places of the first picture."""
    image = axis.imshow(on_grid(100 * found.benefit[:, 0].mean(axis=0), found.shape), cmap=MAP, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title("where it lies in the first picture\n(mean over steps and layers)")
    figure.colorbar(image, ax=axis, orientation="horizontal", shrink=0.85, pad=0.04)
