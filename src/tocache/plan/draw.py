"""A plan as numbers to read and pictures to look at: shares of fresh tokens, as text, as a table, as a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError
from tocache.plan.anatomy import REGION, TURNS, Site
from tocache.plan.cost import flops_by_site, flops_planned, flops_uncached
from tocache.plan.plan import ALL, Plan

Shares = NDArray[np.float64]

# Characters of `draw_text`: nothing fresh, up to 10%, 25%, less than all, all.
LEVELS = "·░▒▓█"
_BOUNDS = (0.0, 0.1, 0.25, 1.0)

# Light, blues, dark red: told apart in grey as well, where reuse is lightest and full is darkest.
_FULL = "#7a0019"
_PARTIAL = ("#eef1f5", "#9cc3e6", "#2f77bd")


@dataclass(frozen=True)
class Panel:
    """One kind of site of one stack of blocks."""

    name: str  # e.g. "mlp [text]"
    stack: str
    share: Shares  # (steps, blocks) fresh tokens / tokens, all passes together


@dataclass(frozen=True)
class TextRow:
    """One line of `draw_text`: the blocks it stands for, and one character of LEVELS per cell."""

    label: str
    cells: str


@dataclass(frozen=True)
class Stretch:
    """Successive steps, as one line of a table."""

    first: int
    last: int
    kinds: dict[str, int]  # full, partial, reuse → how many of its steps
    # kind of site → fewest and most tokens that one site computes in one pass; where the steps are not all of one
    # kind, what is computed in full does not count
    fresh: dict[str, tuple[int, int]]
    flops: float  # its share of the FLOPs of the run, 0 … 1


def heat(plan: Plan) -> Shares:
    """(steps, blocks) share of a block's tokens that are computed, the mean over its sites; stacks in running order."""
    tables = []
    for stack in stacks_of(plan):
        shares = [panel.share for panel in panels(plan) if panel.stack == stack]
        tables.append(np.mean(shares, axis=0))
    return np.concatenate(tables, axis=1)


def panels(plan: Plan) -> list[Panel]:
    """The share of fresh tokens by kind of site, in running order; a region has one of its own."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, site in enumerate(plan.sites):
        for stack in site.stack.split(TURNS):
            groups.setdefault((stack, _kind_name(plan, site)), []).append(i)
    share = _shares(plan)
    drawn = []
    for (stack, name), members in groups.items():
        table = np.zeros((plan.steps, plan.sites[members[0]].depth))
        for i in members:
            site = plan.sites[i]
            table[:, site.block : site.block + site.span] = share[:, i, None]
        drawn.append(Panel(name, stack, table))
    return drawn


def stacks_of(plan: Plan) -> list[str]:
    """The stacks of blocks in running order."""
    return list(dict.fromkeys(stack for site in plan.sites for stack in site.stack.split(TURNS)))


def draw_text(plan: Plan, width: int, rows: int = 12) -> list[TextRow]:
    """The heat map in characters: steps across, blocks down, at most `width` cells wide and about `rows` lines high.

    Where steps outnumber cells, neighbours are averaged (`steps_per_cell`); a plan of few steps is stretched. The first
    block of a stack keeps a line of its own, because published schedules treat it differently.

    Raises OptionError where there is no room.
    """
    if width < 8:
        raise OptionError(f"width={width} is not allowed; allowed: an integer >= 8")
    lines: list[TextRow] = []
    for stack in stacks_of(plan):
        share = np.mean([panel.share for panel in panels(plan) if panel.stack == stack], axis=0)
        prefix = _short(stack) + " " if len(stacks_of(plan)) > 1 else ""
        for blocks in _lines_of(share.shape[1], max(3, rows // len(stacks_of(plan)))):
            label = f"{prefix}{blocks[0]}" if len(blocks) == 1 else f"{prefix}{blocks[0]}–{blocks[-1]}"
            row = share[:, blocks].mean(axis=1)
            lines.append(TextRow(label, "".join(LEVELS[_level(value)] for value in _fit(row, width))))
    return lines


def steps_per_cell(steps: int, width: int) -> int:
    """How many steps one cell of `draw_text` stands for."""
    return max(1, -(-steps // width))


def ruler(steps: int, width: int) -> str:
    """The numbers of some steps, below the cells of `draw_text` at the same width."""
    each = steps_per_cell(steps, width)
    cells = steps * (width // steps) if each == 1 else -(-steps // each)
    line = [" "] * cells
    free = 0
    for step in range(0, steps, next(n for n in (1, 2, 5, 10, 20, 25, 50, 100, steps) if steps <= 12 * n)):
        at, text = step * cells // steps if each == 1 else step // each, str(step)
        if at >= free and at + len(text) <= cells:
            line[at : at + len(text)] = text
            free = at + len(text) + 1
    return "".join(line).rstrip()


def step_table(plan: Plan, most: int = 60) -> list[Stretch]:
    """What each step computes; neighbours that compute exactly the same share a line.

    Where that makes more than `most` lines, there are about half as many, of equal numbers of steps.
    """
    edges = [0, *(s for s in range(1, plan.steps) if (plan.amounts[s] != plan.amounts[s - 1]).any()), plan.steps]
    if len(edges) - 1 > most:
        least = -(-2 * plan.steps // most)
        length = next((n for n in (2, 5, 10, 20, 25, 50, 100) if n >= least), least)  # round: easier to read
        edges = [*range(0, plan.steps, length), plan.steps]
    flops = flops_by_site(plan.anatomies, plan.amounts).sum(axis=(1, 2)) / max(1, flops_planned(plan))
    return [_stretch(plan, a, b, float(flops[a:b].sum())) for a, b in pairwise(edges)]


def draw_png(plan: Plan, path: str | Path) -> None:
    """Writes the plan as a picture: steps across, blocks down, one panel per kind of site.

    Colour is the share of fresh tokens; what is computed in full has a colour of its own.

    Raises OptionError where matplotlib is missing or `path` cannot be written.
    """
    pyplot = pyplot_or_error("a picture of a plan")
    shown, one_stack = panels(plan), len(stacks_of(plan)) == 1
    partial = max((float(p.share[p.share < 1].max(initial=0)) for p in shown), default=0)
    top = next(t for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0) if t >= partial)
    heights = [0.35 + panel.share.shape[1] * 0.045 for panel in shown]
    figure, axes = pyplot.subplots(
        len(shown),
        1,
        sharex=True,
        squeeze=False,
        figsize=(9, 1.7 + sum(heights)),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
        facecolor="white",
    )
    try:
        for axis, panel in zip(axes[:, 0], shown, strict=True):
            title = panel.name if one_stack else f"{panel.name}, {_short(panel.stack)}"
            image = _draw_panel(axis, panel, title, top)
        axes[-1, 0].set_xlabel("step")
        axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
        _legend(figure, axes, image, top)
        figure.suptitle(_title(plan), fontsize=10)
        figure.savefig(path, dpi=160, format=Path(path).suffix[1:] or "png")
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be written: {error}") from error
    finally:
        pyplot.close(figure)


def pyplot_or_error(what: str) -> Any:
    """matplotlib.pyplot without a window. Raises OptionError that says how to install it for `what`."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise OptionError(f"{what} needs matplotlib: pip install 'tocache[plot]'") from error
    mpl.use("agg")
    from matplotlib import pyplot

    return pyplot


def _shares(plan: Plan) -> Shares:
    """(steps, sites) fresh tokens / tokens, over all passes; what does not run computes nothing."""
    tokens = np.array([[a.tokens(site) for site in plan.sites] for a in plan.anatomies], dtype=np.int64)
    fresh = np.where(plan.amounts == ALL, tokens[None], np.maximum(plan.amounts, 0))
    share: Shares = fresh.sum(axis=1) / tokens.sum(axis=0)
    return share


def _stretch(plan: Plan, first: int, end: int, flops: float) -> Stretch:
    kinds: dict[str, int] = {}
    for step in range(first, end):
        kind = plan.kind_of_step(step)
        kinds[kind] = kinds.get(kind, 0) + 1
    fresh: dict[str, tuple[int, int]] = {}
    for p, anatomy in enumerate(plan.anatomies):
        for i, site in enumerate(plan.sites):
            amounts = plan.amounts[first:end, p, i]
            if len(kinds) > 1 and (amounts != ALL).any():
                amounts = amounts[amounts != ALL]
            if site.kind != REGION:
                counts = np.where(amounts == ALL, anatomy.tokens(site), np.maximum(amounts, 0))
                low, high = fresh.get(_kind_name(plan, site), (int(counts[0]), int(counts[0])))
                fresh[_kind_name(plan, site)] = (min(low, int(counts.min())), max(high, int(counts.max())))
    return Stretch(first, end - 1, kinds, fresh, flops)


def _kind_name(plan: Plan, site: Site) -> str:
    return f"{site.kind} [{site.group}]" if len({s.group for s in plan.sites}) > 1 else site.kind


def _short(stack: str) -> str:
    """`transformer_blocks` → blocks, `single_transformer_blocks` → single."""
    return stack.removesuffix("transformer_blocks").rstrip("_") or "blocks"


def _level(share: float) -> int:
    if share >= 1:
        return len(LEVELS) - 1
    return sum(share > bound for bound in _BOUNDS)


def _lines_of(depth: int, rows: int) -> list[list[int]]:
    """The first block, then the others in groups of equal size."""
    size = max(1, -(-(depth - 1) // max(1, rows - 1)))
    return [[0], *([*range(start, min(start + size, depth))] for start in range(1, depth, size))]


def _fit(row: Shares, width: int) -> Shares:
    """(cells,) the steps of one line, repeated or averaged to at most `width` cells."""
    each = steps_per_cell(row.size, width)
    if each == 1:
        return np.repeat(row, width // row.size)
    return np.array([row[first : first + each].mean() for first in range(0, row.size, each)])


def _draw_panel(axis: Any, panel: Panel, title: str, top: float) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("fresh", _PARTIAL).with_extremes(over=_FULL)
    steps, blocks = panel.share.shape
    # what is full lies above the scale; a share of `top` itself does not
    shown = np.where(panel.share >= 1, 2.0, np.minimum(panel.share, top))
    image = axis.imshow(
        shown.T,
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        vmin=0,
        vmax=top,
        extent=(-0.5, steps - 0.5, blocks - 0.5, -0.5),
    )
    axis.set_title(title, fontsize=9, loc="left", pad=3)
    axis.set_ylabel("block", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.yaxis.get_major_locator().set_params(integer=True)
    return image


def _legend(figure: Any, axes: Any, image: Any, top: float) -> None:
    from matplotlib.patches import Patch
    from matplotlib.ticker import PercentFormatter

    bar = figure.colorbar(image, ax=axes[:, 0], shrink=min(1.0, 0.6), pad=0.02, extend="neither")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if top >= 0.1 else 1))
    bar.ax.tick_params(labelsize=8)
    bar.set_label("fresh tokens in a partial step", fontsize=8)
    axes[0, 0].legend(
        handles=[Patch(color=_FULL, label="all tokens")],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8,
        frameon=False,
        borderpad=0.1,
        borderaxespad=0.1,
    )


def _title(plan: Plan) -> str:
    before, after = flops_uncached(plan), flops_planned(plan)
    return (
        f"{plan.method} on {plan.anatomies[0].model}, {plan.steps} steps\n"
        f"{before / 1e12:.4g} → {after / 1e12:.4g} TFLOPs, {before / after:.2f}× fewer"
    )
