"""The picture of `redundancy`: how far features move, how unlike tokens are in that, and the distribution itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tocache.analysis.pictures.style import COLOURS, drawing, heat, layers_of, open_frame, plain_ticks, subtitle

if TYPE_CHECKING:
    from tocache.analysis.redundancy import Floats, Redundancy


def draw_redundancy(found: Redundancy, path: Path) -> None:
    """One row per kind of site: mean distance and spread by step and block, and the tokens' distribution."""
    from matplotlib.colors import LogNorm

    shown = layers_of(found.sites)
    with drawing(path, "redundancy", (11, 1.3 + 1.75 * len(shown))) as (_, figure):
        axes = figure.subplots(len(shown), 3, squeeze=False, width_ratios=(1.15, 1.15, 1), sharex="col")
        scales = (_scale(found.mean, LogNorm), _scale(np.minimum(found.spread, 100), LogNorm, least=1.0))
        for row, layers in zip(axes, shown, strict=True):
            for axis, table, scale in zip(row, (found.mean, found.spread), scales, strict=False):
                image = heat(axis, table[:, list(layers.members)], layers.blocks, scale, first=1)
                bar = figure.colorbar(image, ax=axis, pad=0.02)
                plain_ticks(bar.ax.yaxis)
            row[0].set_ylabel(f"{layers.name}\nblock")
            _distribution(row[2], found, list(layers.members))
        axes[0, 0].set_title("how far features move in a step\n(mean distance ÷ mean length)")
        axes[0, 1].set_title("how unlike the tokens are\n(95th ÷ 5th percentile of the distance)")
        axes[0, 2].set_title("the tokens' distances\n(as multiples of their layer's mean)")
        for axis in axes[-1, :2]:
            axis.set_xlabel("step")
        axes[-1, 2].set_xlabel("distance ÷ mean")
        figure.suptitle(f"How far each token's feature is from that of the step before: {subtitle(found.about)}")


def _scale(table: Floats, norm: Any, least: float = 0.0) -> Any:
    """Logarithmic, without the few values at either end."""
    low, high = np.percentile(table[table > 0], (1, 99)) if (table > 0).any() else (1e-3, 1.0)
    low = max(low, least)
    return norm(low, max(high, low * 1.5), clip=True)


def _distribution(axis: Any, found: Redundancy, members: list[int]) -> None:
    """Three thirds of the run, one line each."""
    from tocache.analysis.redundancy import BINS

    steps = len(found.mean)
    thirds = np.array_split(np.arange(steps), min(3, steps))
    middles = np.sqrt(BINS[1:] * BINS[:-1])
    for colour, steps_of in zip(COLOURS, thirds, strict=False):
        counts = found.counts[steps_of][:, members].sum(axis=(0, 1))
        name = f"steps {steps_of[0] + 1}–{steps_of[-1] + 1}"
        axis.plot(middles, counts / max(1, counts.sum()), color=colour, label=name, linewidth=1.4)
    axis.axvline(1, color="0.8", linewidth=0.8, zorder=0)
    axis.set_xscale("log")
    axis.set_xlim(0.15, 6)
    axis.set_ylim(bottom=0)
    axis.set_yticks([])
    axis.set_ylabel("share of tokens")
    plain_ticks(axis.xaxis)
    axis.legend(frameon=False, fontsize=7.5, loc="upper right")
    open_frame(axis)
