"""What `tocache bench --profile` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.evaluation.profile import Profile
from tocache.evaluation.profile_ranges import PARTS


def show_profile(found: Profile) -> None:
    """Prints where the time of a step of each kind goes: milliseconds, and shares of the step."""
    console = Console(highlight=False, markup=False)
    console.print(Text(f"where a step's time goes: {found.method} on {found.device}", "bold"))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("ms, share", no_wrap=True)
    for kind in found.steps:
        table.add_column(kind, justify="right", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    for part in PARTS:
        if any(found.parts[kind][part] for kind in found.steps):
            table.add_row(part, *(cell for kind in found.steps for cell in _cells(found, kind, part)))
    totals = [sum(found.parts[kind].values()) for kind in found.steps]
    table.add_row("all", *(cell for whole in totals for cell in (f"{whole * 1e3:.3g}", "100%")), style="bold")
    console.print(table)
    steps = ", ".join(f"{kind} {step}" for kind, step in found.steps.items())
    console.print(
        f"steps: {steps}; kernels' own time where there is a GPU, else the processor's; a profiler slows steps down, "
        "small ones most: shares say where to look, seconds are measured without it",
        style="bright_black",
    )


def _cells(found: Profile, kind: str, part: str) -> tuple[str, str]:
    return f"{found.parts[kind][part] * 1e3:.3g}", f"{found.shares(kind)[part]:.1%}"
