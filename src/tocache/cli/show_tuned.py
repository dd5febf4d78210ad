"""What `tocache tune` prints."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.tuning import Tuned

_NAMES = {"tuned": "tuned", "even": "as many at even distances"}


def show_tuned(tuned: Tuned) -> None:
    """Prints the full steps, how much each step matters, and the loss on the prompts that were held out."""
    console = Console(highlight=False, markup=False)
    full, steps = tuned.method.full, tuned.method.of
    console.print(
        Text(f"{tuned.speedup:.2f}× fewer FLOPs", "bold")
        + f": {len(full)} of {steps} steps are full, {tuned.measured} settings measured on {tuned.pictures[0]} pictures"
    )
    console.print(Text("steps  ") + _strip(full, steps) + Text(f"  {', '.join(map(str, full))}", "bright_black"))
    console.print(Text("matter ") + Text(_bars(tuned.weights)) + Text("  (logarithmic)", "bright_black"))
    table = Table(box=None, pad_edge=False)
    for title in (f"on {tuned.pictures[1]} held-out pictures", "PSNR, dB", "1 − SSIM"):
        table.add_column(title, justify="left" if not table.columns else "right")
    for name, figures in tuned.losses.items():
        table.add_row(_NAMES[name], f"{-10 * log10(max(figures['mse'], 1e-12)):.1f}", f"{figures['1 - ssim']:.4f}")
    console.print(table)


def _strip(full: Sequence[int], steps: int) -> Text:
    text = Text()
    for step in range(steps):
        text.append(*(("█", "red") if step in full else ("·", "bright_black")))
    return text


def _bars(weights: tuple[float, ...]) -> str:
    logs = [log10(max(weight, 1e-300)) for weight in weights]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (log - low) / span)] for log in logs)
