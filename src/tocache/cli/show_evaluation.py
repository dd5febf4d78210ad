"""What `tocache evaluate` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.evaluation.papers import Missing, Paper
from tocache.evaluation.sets.report import FALLING, Figure, Report, together
from tocache.evaluation.tools import TOOLS

_SHOWN = {
    "fid": ("FID", ".3f"),
    "sfid": ("sFID", ".3f"),
    "is": ("IS", ".2f"),
    "precision": ("precision", ".4f"),
    "recall": ("recall", ".4f"),
    "clip": ("CLIP", ".3f"),
    "psnr": ("PSNR, dB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "lpips": ("LPIPS", ".4f"),
    "judge": ("judge", ".5f"),
}


def show_report(report: Report) -> None:
    """Prints the figures, what was left out and why, and what should be known about them."""
    console = Console(highlight=False, markup=False)
    about = report.about
    if about:
        samples = about["samples"]
        console.print(Text(samples["path"], "bold") + Text(f": {samples['pictures']:,} pictures{_size(samples)}"))
        if "reference" in about:
            console.print(f"reference: {about['reference']['path']}{_of(about['reference'])}")
        if "against" in about:
            console.print(f"against: {about['against']}")
        read_by = {"features": about.get("features", {}).get("name"), "clip": about.get("clip")}
        for what, name in read_by.items():
            if name is not None:
                console.print(f"{what}: {name}")
    if report.figures:
        console.print()
        console.print(_figures(report))
    for name, found in report.imported.items():
        console.print()
        console.print(Text(f"{TOOLS[name].NAME if name in TOOLS else name}", "bold") + Text(f" ({found['source']})"))
        console.print(_imported(found))
    for names, why in together(report.left_out):
        console.print(f"not measured: {names}: {why}", style="bright_black")
    for note in report.notes:
        console.print(f"note: {note}", style="bright_black")


def _figures(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for name in ("", "", "95% interval", "pictures"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("")
    for name, figure in report.figures.items():
        label, form = _SHOWN[name]
        table.add_row(
            Text(label) + Text(" ↓" if name in FALLING else " ↑", "bright_black"),
            Text(format(figure.value, form), "bold"),
            _interval(figure, form),
            f"{figure.pictures:,}",
            Text(figure.note, "bright_black"),
        )
    return table


def _interval(figure: Figure, form: str) -> str:
    if figure.low is None or figure.high is None:
        return "—"
    return f"{figure.low:{form}} – {figure.high:{form}}"


def _imported(found: dict[str, Any] | Any) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    score = "—" if found["score"] is None else f"{found['score']:.4f}"
    if found.get("low") is not None:
        score += f"   ({found['low']:.4f} – {found['high']:.4f})"
    table.add_row("score", Text(score, "bold"))
    for name, value in found.items():
        if isinstance(value, dict):
            for part, number in value.items():
                table.add_row(f"  {part.replace('_', ' ')}", f"{number:.4f}")
        elif name in ("quality", "semantic") and value is not None:
            table.add_row(name, f"{value:.4f}")
        elif name == "missing":
            table.add_row("missing", ", ".join(value))
    return table


def _size(about: dict[str, Any]) -> str:
    return "" if about["size"] is None else f", {about['size'][1]} × {about['size'][0]}"


def _of(about: dict[str, Any]) -> str:
    counted = "statistics" if about["pictures"] is None else f"{about['pictures']:,} pictures"
    manifold = "" if about["manifold"] is None else f", a manifold of {about['manifold']:,}"
    return f" ({counted}{manifold})"


def show_paper(paper: Paper, missing: list[Missing], data: Path) -> None:
    """Prints what a published table says, the commands that reproduce it, and what is missing here."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(Text(paper.title, "bold"))
    console.print(paper.source, style="bright_black")
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bright_black")
    table.add_column("as published", no_wrap=True)
    for name in paper.columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in paper.rows:
        table.add_row(row.label, *row.published)
    console.print(table)
    for heading, lines in paper.steps(data):
        console.print()
        console.print(Text(f"# {heading}", "bright_black"))
        for line in lines:
            console.print(line)
    console.print()
    console.print(Text("What is known of how these figures came to be", "bold"))
    for note in paper.notes:
        console.print(f"· {note}")
    console.print()
    if missing:
        console.print(Text("Missing here", "bold red"))
        for one in missing:
            console.print(Text(f"✗ {one.what}", "red") + Text(f": {one.why}"))
    else:
        console.print(Text("Nothing is missing here.", "bold green"))
