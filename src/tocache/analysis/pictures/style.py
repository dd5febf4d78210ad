"""What the studies' pictures have in common: paper, colours, maps of steps × blocks, titles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError
from tocache.plan.anatomy import Site
from tocache.plan.draw import pyplot_or_error

Floats = NDArray[np.float64]

# Okabe and Ito's colours, which the colour-blind tell apart; the yellow one is too pale for lines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
MAP = "viridis"
_DOTS = 140


@dataclass(frozen=True)
class Layers:
    """The sites of one kind and token group in one stack: a row for each block."""

    name: str
    stack: str
    kind: str
    members: tuple[int, ...]  # indices of sites
    blocks: tuple[int, ...]


def layers_of(sites: Sequence[Site], members: Sequence[int] | None = None) -> list[Layers]:
    """Sites grouped as they are drawn, in running order; `members` leaves out the others."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i in range(len(sites)) if members is None else members:
        groups.setdefault((sites[i].stack, sites[i].kind, sites[i].group), []).append(i)
    stacks = {stack for stack, _, _ in groups}
    kinds: dict[tuple[str, str], set[str]] = {}
    for stack, kind, group in groups:
        kinds.setdefault((stack, kind), set()).add(group)
    drawn = []
    for (stack, kind, group), found in groups.items():
        name = kind if len(kinds[stack, kind]) == 1 else f"{kind} [{group}]"
        name = name if len(stacks) == 1 else f"{name}, {short(stack)}"
        drawn.append(Layers(name, stack, kind, tuple(found), tuple(sites[i].block for i in found)))
    return drawn


def short(stack: str) -> str:
    """A stack's path without what all of them end in."""
    return stack.removesuffix("_blocks").removesuffix("_transformer") or stack


@contextmanager
def drawing(path: Path, what: str, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """Yields pyplot and a figure of `size` inches on white, and writes it to `path`.

    Raises OptionError without matplotlib, or where `path` cannot be written.
    """
    pyplot = pyplot_or_error(f"a picture of {what}")
    fonts = {"font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "figure.titlesize": 10.5}
    with pyplot.rc_context(fonts):
        figure = pyplot.figure(figsize=size, layout="constrained", facecolor="white")
        try:
            yield pyplot, figure
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=_DOTS)
        except (OSError, ValueError) as error:
            raise OptionError(f"{path}: cannot be written: {error}") from error
        finally:
            pyplot.close(figure)


def heat(axis: Any, table: Floats, blocks: Sequence[int], scale: Any, first: int = 0, colours: str = MAP) -> Any:
    """Draws `table` (steps, blocks): steps across, beginning with `first`, blocks down."""
    steps = len(table)
    extent = (first - 0.5, first + steps - 0.5, len(blocks) - 0.5, -0.5)
    image = axis.imshow(table.T, aspect="auto", cmap=colours, norm=scale, interpolation="nearest", extent=extent)
    every = max(1, -(-len(blocks) // 6))
    axis.set_yticks(range(0, len(blocks), every), [str(blocks[k]) for k in range(0, len(blocks), every)])
    axis.xaxis.get_major_locator().set_params(integer=True)
    return image


def on_grid(values: Floats, grid: Sequence[int]) -> Floats:
    """(height, width) values of tokens that lie on `grid`; a video's frames stand side by side."""
    frames = values.reshape(-1, *grid[-2:])
    joined: Floats = np.concatenate(list(frames), axis=1)
    return joined


def plain_ticks(axis: Any) -> None:
    """A logarithmic colour bar or axis whose numbers are written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def open_frame(*axes: Any) -> None:
    """Takes off the upper and the right edge."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)


def subtitle(about: Mapping[str, Any]) -> str:
    """What was looked at, in a line."""
    pictures = len(about["prompts"])
    drawn = f"{pictures} pictures" if pictures > 1 else "1 picture"
    return f"{about['model']}, {about['scheduler']}, {about['steps']} steps, {drawn}"
