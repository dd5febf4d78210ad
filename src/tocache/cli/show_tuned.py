"""What `tocache tune` prints."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.tuning import Tuned

_NAMES = {"tuned": "tuned", "even": "reuse at even distances"}
_CELLS = {"full": ("█", "red"), "partial": ("▒", "blue"), "reuse": ("·", "bright_black")}
_LOSSES = {"judge": "judge's distance", "pixels": "loss of pixels"}


def show_tuned(tuned: Tuned) -> None:
    """Prints what was found, how much each step matters, and how it does on the prompts that were held out."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    full, partial, steps = tuned.method.full, tuned.method.partial, tuned.method.of
    some = f", {len(partial)} partial" if partial else ""
    currency = "FLOPs" if tuned.clock is None else "seconds"
    console.print(
        Text(f"{tuned.ratio:.2f}× fewer {currency}", "bold")
        + f": {len(full)} of {steps} steps are full{some}; between them: {tuned.between}"
    )
    console.print(
        f"{_LOSSES[tuned.measure]} {tuned.loss:.4g} on the {tuned.pictures[0]} pictures it was tuned on; "
        f"{tuned.measured} settings were measured"
    )
    if tuned.clock is not None:
        usual = tuned.clock.uncached
        console.print(
            f"predicted {usual / tuned.ratio:.3g} s for the loop of one picture, {usual:.3g} s without a cache; "
            f"predictions are off by {tuned.clock.error:.0%} (median)"
        )
    console.print(Text("steps  ") + _strip(tuned) + Text(f"  {', '.join(map(str, full))}", "bright_black"))
    console.print(Text("matter ") + Text(_bars(tuned.weights)) + Text("  (logarithmic)", "bright_black"))
    console.print(_table(tuned))


def _table(tuned: Tuned) -> Table:
    table = Table(box=None, pad_edge=False)
    by = "FLOPs" if tuned.clock is None else "predicted"
    titles = [f"on {tuned.pictures[1]} held-out pictures", f"× {by}", _LOSSES[tuned.measure], "PSNR, dB", "1 − SSIM"]
    if tuned.clock is not None:
        titles.insert(2, "× measured")
    for title in titles:
        table.add_column(title, justify="left" if not table.columns else "right")
    for one in tuned.compared:
        cells = [_NAMES.get(one.name, one.name), f"{one.ratio:.2f}"]
        cells += [] if one.measured is None else [f"{one.measured:.2f}"]
        unlike = one.figures.get("1 - ssim")
        psnr = -10 * log10(max(one.figures["mse"], 1e-12))
        cells += [f"{one.figures['loss']:.4g}", f"{psnr:.1f}", "" if unlike is None else f"{unlike:.4f}"]
        table.add_row(*cells)
    return table


def _strip(tuned: Tuned) -> Text:
    text = Text()
    for step in range(tuned.plan.steps):
        text.append(*_CELLS[tuned.plan.kind_of_step(step)])
    return text


def _bars(weights: Sequence[float]) -> str:
    logs = [log10(max(weight, 1e-300)) for weight in weights]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (log - low) / span)] for log in logs)
