"""What `tocache analyze` prints."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.analysis import Propagation, Redundancy, Scores, Selection, Sensitivity
from tocache.analysis.pictures.style import layers_of

Study = Redundancy | Propagation | Sensitivity | Selection | Scores


def show_study(found: Study) -> None:
    """Prints what was looked at, and the figures that answer the study's question."""
    console = Console(highlight=False, markup=False)
    about = found.about
    drawn = f"{len(about['prompts'])} picture{'s' * (len(about['prompts']) > 1)}"
    console.print(
        Text(f"{about['model']}", "bold")
        + Text(f": {about['transformer']}, {about['scheduler']}, {about['steps']} steps, {drawn}")
    )
    _show(found, console)


@singledispatch
def _show(found: Study, console: Console) -> None:
    raise TypeError(type(found))


@_show.register
def _(found: Redundancy, console: Console) -> None:
    table = _table("layers", "moved by", "95th ÷ 5th")
    for layers in layers_of(found.sites):
        members = list(layers.members)
        move, spread = found.mean[:, members], np.median(found.spread[:, members])
        table.add_row(layers.name, f"{100 * np.median(move):.3g}%", f"{spread:.2f}×")
    console.print(table)
    _note(
        console,
        "moved by: from one step to the next, of the mean length of the layer's tokens; 95th ÷ 5th: percentiles of the "
        "distance over tokens; medians over steps and blocks",
    )


@_show.register
def _(found: Propagation, console: Console) -> None:
    table = _table("step", "error", "largest ÷ smallest", "stays")
    for step, error, ratio, own in zip(found.steps, found.error, found.ratio, found.own, strict=True):
        stays = "—" if np.isnan(own).all() else f"{100 * np.nanmedian(own):.0f}%"
        table.add_row(str(step), f"{100 * np.median(error):.3g}%", f"{np.median(ratio):.1f}×", stays)
    console.print(table)
    worst = np.unravel_index(found.ratio.argmax(), found.ratio.shape)
    site = found.sites[worst[1]]
    _note(
        console,
        "error: of the model's answer; largest ÷ smallest: over tokens; stays: share of the squared error at the "
        f"token's own place; medians over layers. Most unlike: {found.ratio[worst]:.1f}× in step "
        f"{found.steps[worst[0]]}, {site.name}",
    )


@_show.register
def _(found: Sensitivity, console: Console) -> None:
    table = _table("layers", "median", "most", "step, block", "least", "step, block")
    loss = found.loss[1:]
    for layers in layers_of(found.sites):
        members = list(layers.members)
        part = loss[:, members]
        most, least = (np.unravel_index(at, part.shape) for at in (part.argmax(), part.argmin()))
        cells = [(f"{100 * part[at]:.3g}%", f"{at[0] + 1}, {layers.blocks[at[1]]}") for at in (most, least)]
        table.add_row(layers.name, f"{100 * np.median(part):.3g}%", *cells[0], *cells[1])
    console.print(table)
    measured = int(np.isfinite(found.probed).sum())
    ratio, rank = found.check()
    note = f"root mean squared error of the picture; {measured} of {loss.size} measured to the end"
    if measured < loss.size and np.isfinite(ratio):
        note += (
            f", the others estimated: off by {ratio:.2f}× and ranked as measured by {rank:.2f} where steps are left out"
        )
    _note(console, note)


@_show.register
def _(found: Selection, console: Console) -> None:
    chosen = found.chosen
    console.print(f"{found.about['method']}: {len(found.partial_steps)} steps with a choice of tokens")
    console.print(
        f"the tokens were chosen {100 * chosen.mean():.3g}% of the times, the rarest {100 * chosen.min():.3g}%, the "
        f"most frequent {100 * chosen.max():.3g}%"
    )


@_show.register
def _(found: Scores, console: Console) -> None:
    table = _table("score", "rank correlation", "95% interval", "captured")
    for name, mean, low, high, share in found.summary():
        table.add_row(name, f"{mean:+.3f}", f"{low:+.3f} … {high:+.3f}", f"{100 * share:.0f}%")
    console.print(table)
    places, pictures, tokens = found.benefit.shape
    _note(
        console,
        f"with the benefit of computing a token, over {tokens} tokens at {places} places (layer and step) of "
        f"{pictures} picture{'s' * (pictures > 1)}; captured: benefit of the quarter that it would choose ÷ of the "
        f"best quarter. When all is served the answer is off by {100 * np.median(found.stale):.3g}%",
    )


def _note(console: Console, text: str) -> None:
    console.print(text, style="bright_black")


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table
