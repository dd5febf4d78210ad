"""The picture of `selection`: which tokens were chosen, by step and layer, over the image; of videos an animation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tocache.analysis.pictures.style import Floats, drawing, on_grid, subtitle
from tocache.analysis.places import spaced
from tocache.errors import OptionError
from tocache.plan.draw import pyplot_or_error

if TYPE_CHECKING:
    from tocache.analysis.selection import Selection

_STEPS, _LAYERS = 6, 4
_COLOURS = "magma"  # from black: what was never fresh is dark
ANIMATIONS = (".gif", ".webp")


def draw_selection(found: Selection, path: Path) -> None:
    """Writes the picture; for a video an animation to a .gif or .webp, or its middle frame to any other file."""
    if path.suffix.lower() not in ANIMATIONS:
        with drawing(path, "selection", _size(found)) as (_, figure):
            _draw(figure, found, _frames(found) // 2)
        return
    if not found.about["video"]:
        raise OptionError(f"{path}: an animation is for videos; {found.about['model']} draws pictures")
    stills = []
    pyplot = pyplot_or_error("a picture of selection")
    for frame in range(_frames(found)):
        figure = pyplot.figure(figsize=_size(found), layout="constrained", facecolor="white")
        _draw(figure, found, frame)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=80)
        pyplot.close(figure)
        stills.append(buffer)
    _animate(stills, path)


def _frames(found: Selection) -> int:
    return found.grid[0] if len(found.grid) == 3 else 1


def _size(found: Selection) -> tuple[float, float]:
    steps, layers = _shown(found)
    return 2.6 + 1.25 * len(steps), 1.4 + max(3.4, 1.35 * len(layers))


def _shown(found: Selection) -> tuple[list[int], list[list[int]]]:
    """Some partial steps, and some blocks as the sites in them that chose."""
    partial = found.partial_steps
    blocks: dict[tuple[str, int], list[int]] = {}
    for k, site in enumerate(found.sites):
        if (found.computed[:, k] > 0).any():
            blocks.setdefault((site.stack, site.block), []).append(k)
    layers = list(blocks.values())
    return [partial[k] for k in spaced(len(partial), _STEPS)], [layers[k] for k in spaced(len(layers), _LAYERS)]


def _draw(figure: Any, found: Selection, frame: int) -> None:
    """Columns are steps, rows are blocks; on the left what was drawn, and the mean of everything."""
    steps, layers = _shown(found)
    left, right = figure.subfigures(1, 2, width_ratios=(2.2, 1.25 * len(steps)))
    picture, mean = left.subplots(2, 1)
    picture.imshow(_picture(found, frame))
    picture.set_title("drawn")
    chosen = 100 * _frame(found.chosen, found, frame)
    image = mean.imshow(chosen, cmap=_COLOURS, interpolation="nearest", vmin=0)
    mean.set_title("how often chosen,\nall partial steps and layers, %")
    bar = left.colorbar(image, ax=mean, orientation="horizontal", shrink=0.8, pad=0.04)
    bar.ax.tick_params(labelsize=7.5)
    axes = right.subplots(len(layers), len(steps), squeeze=False)
    for row, members in zip(axes, layers, strict=True):
        for axis, step in zip(row, steps, strict=True):
            share = found.fresh[step, members].mean(axis=0) / 255
            axis.imshow(_frame(share, found, frame), cmap=_COLOURS, interpolation="nearest", vmin=0, vmax=1)
            amounts = found.computed[step, members]
            counted = np.where(amounts < 0, found.fresh.shape[2], amounts)
            axis.set_xlabel(f"{100 * counted.mean() / found.fresh.shape[2]:.0f}%", fontsize=7.5, labelpad=1)
        row[0].set_ylabel(f"block {found.sites[members[0]].block}")
    for axis, step in zip(axes[0], steps, strict=True):
        axis.set_title(f"step {step}")
    for axis in (*axes.flat, picture, mean):
        axis.set_xticks([])
        axis.set_yticks([])
    right.suptitle(_legend(found), fontsize=9)
    about = found.about
    figure.suptitle(f"Which tokens were computed: {subtitle(about)}\n{about['method']}", fontsize=10)


def _legend(found: Selection) -> str:
    """What the colours of the maps mean: two guidance halves that choose by themselves need not agree."""
    some = ((found.fresh > 0) & (found.fresh < 255)).any()
    between = " (those in some rows or layers of the block alone are darker)" if some else ""
    return f"computed tokens are bright{between}; below each map their share"


def _frame(tokens: Floats, found: Selection, frame: int) -> Floats:
    """(height, width) of one frame."""
    if len(found.grid) == 2:
        return on_grid(tokens, found.grid)
    return on_grid(tokens.reshape(found.grid)[frame].ravel(), found.grid[1:])


def _picture(found: Selection, frame: int) -> NDArray[np.float32]:
    """(H, W, 3) what was drawn; of a video the frame that the tokens' frame stands for."""
    first = found.pictures[0]
    if first.ndim == 4:
        first = first[round(frame * (len(first) - 1) / max(1, _frames(found) - 1))]
    drawn: NDArray[np.float32] = first.transpose(1, 2, 0)  # (3, H, W) -> (H, W, 3)
    return drawn


def _animate(stills: list[io.BytesIO], path: Path) -> None:
    from PIL import Image

    frames = [Image.open(still).convert("RGB") for still in stills]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=400, loop=0)
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be written: {error}") from error
