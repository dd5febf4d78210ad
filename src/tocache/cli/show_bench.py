"""What `tocache bench` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tocache.evaluation.contenders import OURS, REFERENCE
from tocache.evaluation.frontier import AtPoint
from tocache.evaluation.results import BY_FLOPS, BY_LATENCY, JUDGE_LOSS, LOSSES, SSIM_LOSS, Figure, Results, Row

_SHOWN = {
    "PSNR": ("psnr", ".1f"),
    "SSIM": ("ssim", ".3f"),
    "LPIPS": ("lpips", ".3f"),
    "judge": (JUDGE_LOSS, ".4f"),
}
_LOSS = {JUDGE_LOSS: "distance in the judge's features", SSIM_LOSS: "1 − SSIM"}
_BY = {BY_FLOPS: "fewer FLOPs", BY_LATENCY: "as fast a denoising loop"}


def show_results(results: Results) -> None:
    """Prints the table of all settings, the curves at the points, and what could not run."""
    console = Console(highlight=False, markup=False)
    about = results.about
    console.print(
        Text(f"{about['model']}", "bold")
        + Text(f": {about['transformer']}, {about['scheduler']}, {about['dtype']}, batch {about['batch']}")
    )
    console.print(
        f"{about['hardware']}, torch {about['versions']['torch']}, diffusers {about['versions']['diffusers']}"
    )
    console.print()
    measured = [row for row in results.rows if not row.failed]
    console.print(_speeds(measured))
    console.print(
        "×: uncached ÷ this, of the transformer's FLOPs, the denoising loop, the whole call; loop, s: seconds of one "
        "batch, median; realised: loop ÷ FLOPs",
        style="bright_black",
    )
    console.print()
    console.print(_qualities(measured))
    console.print(
        "PSNR (dB), SSIM, LPIPS, judge: to the uncached picture, means over pictures; claims, prompts: what the judge "
        "finds of what was asked; Fréchet: to real renders, in the judge's features",
        style="bright_black",
    )
    for by in (BY_FLOPS, BY_LATENCY):
        for loss in LOSSES:
            points = results.at_points(loss, by)
            if points:
                console.print()
                console.print(Text(f"{_LOSS[loss]} at so many times {_BY[by]}, on each method's own curve", "bold"))
                console.print(_at_points(points, about["points"]))
    failed = [row for row in results.rows if row.failed]
    if failed:
        console.print()
        console.print(Text("took no part", "bold"))
        console.print(_failures(failed))
    for name, why in about.get("left_out", {}).items():
        console.print(f"not measured: {name}: {why}", style="bright_black")


def _speeds(rows: Sequence[Row]) -> Table:
    table = _columns("FLOPs", "loop, s", "p20–p80", "loop", "call", "realised", "cache")
    for row, label in _labelled(table, rows):
        loop = row.loop_seconds
        table.add_row(
            label,
            _times(row.flops_ratio),
            "—" if loop is None else f"{loop['p50']:.3g}",
            "" if loop is None else f"{loop['p20']:.3g}–{loop['p80']:.3g}",
            _times(row.loop_speedup),
            _times(row.total_speedup),
            _number(row.realised_over_flops, ".2f"),
            "—" if row.cache_bytes is None else f"{row.cache_bytes / 2**20:.1f} MiB",
            style=_style(row),
        )
    return table


def _qualities(rows: Sequence[Row]) -> Table:
    paired = {name: spec for name, spec in _SHOWN.items() if any(spec[0] in row.paired for row in rows)}
    shown = [name for name in ("claims", "prompts") if any(name in row.shown for row in rows)]
    frechet = any(row.frechet is not None for row in rows)
    table = _columns(*paired, *shown, *(["Fréchet"] if frechet else []))
    for row, label in _labelled(table, rows):
        figures = [_mean(row.paired.get(name), form) for name, form in paired.values()]
        figures += [_mean(row.shown.get(name), ".0%") for name in shown]
        table.add_row(label, *figures, *([_number(row.frechet, ".2f")] if frechet else []), style=_style(row))
    return table


def _columns(*names: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _labelled(table: Table, rows: Sequence[Row]) -> Iterator[tuple[Row, RenderableType]]:
    """Rows with what they are called; a method's name has a line of its own above its settings."""
    before = ""
    for row in rows:
        if row.kind == REFERENCE:
            yield row, row.curve
            continue
        if row.curve != before:
            table.add_row(row.curve, style=f"bold {_style(row)}")
        yield row, Padding(row.setting, (0, 0, 0, 2))
        before = row.curve


def _style(row: Row) -> str:
    return {REFERENCE: "bright_black", OURS: ""}.get(row.kind, "cyan")


def _at_points(curves: dict[str, list[AtPoint]], points: Sequence[float]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("method")
    for point in points:
        table.add_column(f"{point:g}×", justify="right", no_wrap=True)
    least = [
        min((losses[i].loss for losses in curves.values() if losses[i].loss is not None), default=None)  # type: ignore[type-var]
        for i in range(len(points))
    ]
    for name, losses in curves.items():
        cells = []
        for i, at in enumerate(losses):
            if at.loss is None:
                cells.append(Text(f"ends at {at.reach:.2f}×" if at.reach < at.point else "—", "bright_black"))
            else:
                cells.append(Text(f"{at.loss:.4f}", "bold" if at.loss == least[i] else ""))
        table.add_row(name, *cells)
    return table


def _failures(rows: Sequence[Row]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(row.curve, f"{row.setting}: {row.failed}" if row.setting else row.failed)
    return table


def _times(ratio: float | None) -> str:
    return "—" if ratio is None else f"{ratio:.2f}×"


def _mean(figure: Figure | None, form: str) -> str:
    return "—" if figure is None else format(figure["mean"], form)


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)
