"""The Pareto plot: loss against FLOPs and against latency, one panel each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tocache.evaluation.contenders import OURS, STEPS, is_new
from tocache.evaluation.frontier import undominated
from tocache.evaluation.results import BY_FLOPS, BY_LATENCY, JUDGE_LOSS, LOSSES, SSIM_LOSS, Results
from tocache.plan.draw import pyplot_or_error

_TITLES = {BY_FLOPS: "FLOPs of the transformer, times fewer", BY_LATENCY: "denoising loop, times as fast"}
_LABELS = {JUDGE_LOSS: "distance in the judge's features", SSIM_LOSS: "1 − SSIM"}
_WIDE = 30  # losses that lie further apart than this are drawn on a logarithmic axis
_ROOM = 0.075  # of the axis, for a number beside the last one
_GROUPS = ("new", "published, in the same engine", "fewer steps", "peers, as their packages have them")
_STRONG = ("#b2182b", "#e08214", "#111111", "#542788")  # of the new ones
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")


def draw_pareto(results: Results, path: Path) -> bool:
    """Writes the plot; False, and no file, where nothing was measured that could be drawn.

    Thick lines are the methods that are new, thin ones published methods in the same engine, dotted ones fewer steps,
    dashed ones peers; the grey step line is what nothing beats. Raises OptionError without matplotlib.
    """
    losses = [loss for loss in LOSSES if any(results.curve(name, loss, BY_FLOPS) for name in results.curves())]
    if not losses:
        return False
    pyplot = pyplot_or_error("bench")
    styles = _styles(results, pyplot)
    figure, axes = pyplot.subplots(
        len(losses), 2, figsize=(13, 0.9 + 4.3 * len(losses)), squeeze=False, facecolor="white", layout="constrained"
    )
    try:
        for row, loss in zip(axes, losses, strict=True):
            for axis, by in zip(row, (BY_FLOPS, BY_LATENCY), strict=True):
                _draw_panel(axis, results, loss, by, styles)
        _explain(figure, axes[0][0], {name: _group(results, name) for name in results.curves()})
        about = results.about
        figure.suptitle(
            f"{about['model']}: {results.pictures} pictures in batches of {about['batch']}, {about['scheduler']}, "
            f"{about['hardware']}",
            fontsize=10,
            x=0.01,
            horizontalalignment="left",
        )
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)
    return True


def _draw_panel(axis: Any, results: Results, loss: str, by: str, styles: dict[str, dict[str, Any]]) -> None:
    everything: list[tuple[float, float]] = []
    for name in results.curves():
        # the uncached picture, at (1, 0), would flatten all others
        points = sorted(point for point in results.curve(name, loss, by) if point[1] > 0)
        if points:
            axis.plot(*zip(*points, strict=True), label=name, **styles[name])
            everything += points
    best = [everything[i] for i in undominated(everything)]
    if best:
        best.insert(0, (min(everything)[0], best[0][1]))
        axis.step(*zip(*best, strict=True), where="pre", color="0.75", linewidth=5, alpha=0.6, zorder=0)
    for point in results.about["points"]:
        axis.axvline(point, color="0.85", linewidth=0.8, zorder=-1)
    axis.set_xlabel(_TITLES[by])
    axis.set_ylabel(f"{_LABELS[loss]} to the uncached picture")
    losses = [y for _, y in everything]
    if losses and max(losses) > _WIDE * min(losses):
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    _mark_speeds(axis, [x for x, _ in everything])


def _mark_speeds(axis: Any, speeds: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers; speed-ups are ratios."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if not speeds:
        return
    axis.set_xscale("log")
    low, high = min(speeds) * 0.95, max(speeds) * 1.05
    room = (high / low) ** _ROOM
    ticks: list[float] = []
    for tick in (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50):
        if low <= tick <= high and (not ticks or tick >= room * ticks[-1]):
            ticks.append(tick)
    axis.set_xlim(low, high)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))


def _explain(figure: Any, axis: Any, groups: dict[str, str]) -> None:
    """The legend, with the curves of each group under its name."""
    from matplotlib.lines import Line2D

    drawn = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    handles, labels = [], []
    for group in _GROUPS:
        members = [name for name in drawn if groups[name] == group]
        if members:
            handles += [Line2D([], [], linestyle="none"), *(drawn[name] for name in members)]
            labels += [group, *members]
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    for text in legend.get_texts():
        if text.get_text() in _GROUPS:
            text.set_fontweight("bold")


def _group(results: Results, curve: str) -> str:
    if is_new(curve):
        return _GROUPS[0]
    kind = next(row.kind for row in results.rows if row.curve == curve)
    return _GROUPS[{OURS: 1, STEPS: 2}.get(kind, 3)]


def _styles(results: Results, pyplot: Any) -> dict[str, dict[str, Any]]:
    """One look per curve, the same in all panels."""
    colours = pyplot.get_cmap("tab20").colors
    lines = dict(zip(_GROUPS, (("-", 3.2), ("-", 1.1), (":", 1.6), ("--", 1.3)), strict=True))
    styles = {}
    for number, name in enumerate(results.curves()):
        group = _group(results, name)
        line, width = lines[group]
        new = group == _GROUPS[0]
        styles[name] = {
            # every other colour of tab20 is a pale one: those come last
            "color": colours[(2 * number) % 20 + (number // 10) % 2],
            "marker": _MARKS[number % len(_MARKS)],
            "markersize": 7 if new else 4.5,
            "linestyle": line,
            "linewidth": width,
            "zorder": 3 if new else 2,
        }
    for number, name in enumerate(name for name in styles if is_new(name)):
        styles[name]["color"] = _STRONG[number % len(_STRONG)]
    return styles
