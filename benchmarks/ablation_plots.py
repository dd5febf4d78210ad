"""The figures of `ablations.py`: one panel for each model, the loss of every setting with its 95% interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

IMAGES = Path(__file__).parents[1] / "docs" / "images"
OVER_FLOPS = ("forecast",)  # of these the settings differ in FLOPs: a line each, over FLOPs
AXES = {
    "scores": "score that chooses the tokens",
    "weights": "what is weighted as published",
    "interval": "steps from one full step to the next",
    "attention": "steps from one full step to the next",
    "share": "one choice of tokens for each",
}
COLOURS = ("#b2182b", "#2166ac", "#1b7837", "#e08214", "#542788")
Row = Mapping[str, Any]


def draw_study(study: str, rows: Sequence[Row]) -> None:
    """Writes docs/images/ablation-STUDY.png; nothing where there are no rows."""
    models = [model for model in ("demo:text", "demo:class") if any(row["model"] == model for row in rows)]
    if not models:
        return
    size = (5.6 * len(models), 3.9)
    figure, axes = plt.subplots(1, len(models), figsize=size, squeeze=False, layout="constrained", facecolor="white")
    for axis, model in zip(axes[0], models, strict=True):
        own = [row for row in rows if row["model"] == model]
        (_over_flops if study in OVER_FLOPS else _side_by_side)(axis, own)
        ratios = sorted({round(row["flops_ratio"], 1) for row in own if row["line"] != "no fresh tokens"})
        same = "" if study in OVER_FLOPS else f", {' to '.join(f'{r:g}' for r in sorted({ratios[0], ratios[-1]}))}×"
        axis.set_title(f"{model}{same}", fontsize=10)
        axis.set_xlabel("FLOPs, times fewer" if study in OVER_FLOPS else AXES[study])
        axis.spines[["top", "right"]].set_visible(False)
        if max(row["judge_distance"] for row in own) > 20 * min(row["judge_distance"] for row in own):
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel("distance in the judge's features")
    if len({row["line"] for row in rows}) > 1:
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(IMAGES / f"ablation-{study}.png", dpi=120)
    plt.close(figure)


def _over_flops(axis: Any, rows: Sequence[Row]) -> None:
    for colour, line in zip(COLOURS, dict.fromkeys(row["line"] for row in rows), strict=False):
        own = sorted((row for row in rows if row["line"] == line), key=lambda row: row["flops_ratio"])
        x = [row["flops_ratio"] for row in own]
        _bars(axis, x, own, colour, line, fmt="o-")


def _side_by_side(axis: Any, rows: Sequence[Row]) -> None:
    """Settings at their places, lines next to each other; what is no setting of its own is a grey line across."""
    across = [row for row in rows if row["line"] == "no fresh tokens"]
    rows = [row for row in rows if row not in across]
    places = list(dict.fromkeys(row["at"] for row in rows))
    if all(place.isdecimal() for place in places):
        places.sort(key=int)
    lines = list(dict.fromkeys(row["line"] for row in rows))
    for n, (colour, line) in enumerate(zip(COLOURS, lines, strict=False)):
        own = [row for row in rows if row["line"] == line]
        shift = 0.14 * (n - (len(lines) - 1) / 2)
        _bars(axis, [places.index(row["at"]) + shift for row in own], own, colour, line, fmt="o")
    for row, style in zip(across, ("-", "--"), strict=False):
        label = f"{row['line']} ({row['flops_ratio']:.1f}×)"
        axis.axhline(row["judge_distance"], color="0.6", linewidth=1.2, linestyle=style, label=label, zorder=0)
    turned = {"rotation": 30, "ha": "right"} if max(map(len, places)) > 8 else {}
    axis.set_xticks(range(len(places)), places, fontsize=8, **turned)


def _bars(axis: Any, x: Sequence[float], rows: Sequence[Row], colour: str, label: str, *, fmt: str) -> None:
    y = [row["judge_distance"] for row in rows]
    errors = [
        [max(0.0, row["judge_distance"] - row["low"]) for row in rows],
        [max(0.0, row["high"] - row["judge_distance"]) for row in rows],
    ]
    axis.errorbar(x, y, errors, fmt=fmt, color=colour, label=label, markersize=5, linewidth=1.2, capsize=2)
