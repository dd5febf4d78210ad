"""What `tocache compare` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tocache.evaluation.scores import EQUAL, PSNR, SSIM
from tocache.planning import flops_text
from tocache.reporting import Column, Comparison


def show_compared(comparison: Comparison) -> None:
    """Prints one line per method: FLOPs, seconds, cache, and how close its pictures are to the uncached ones."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold")
    for name in ("FLOPs", "fewer", "s", "faster", "cache", "PSNR", "SSIM"):
        table.add_column(name, justify="right", no_wrap=True)
    reports = [column.report for column in comparison.columns if column.report is not None]
    for column in comparison.columns:
        seconds = column.median_seconds()
        flops = reports[0].flops_uncached if column.report is None and reports else None
        table.add_row(
            column.label,
            *(_cached(comparison, column) if column.report else (_flops(flops), "")),
            "—" if seconds is None else f"{seconds:.3g}",
            _times(comparison.speedup(column)) if column.report else "",
            f"{(column.report.cache_bytes_peak or 0) / 2**20:.1f} MiB" if column.report else "",
            _mean(column, PSNR, ".1f") if column.report else "",
            _mean(column, SSIM, ".3f") if column.report else "",
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    count = len(comparison.tasks)
    console.print(
        f"{'one prompt' if count == 1 else f'{count} prompts'}; s: median of the whole call; PSNR (dB) and SSIM to the "
        "pictures without cache",
        style="bright_black",
    )


def _cached(comparison: Comparison, column: Column) -> tuple[str, str]:
    assert column.report is not None
    return _flops(column.report.flops_computed), _times(column.report.speedup)


def _flops(flops: int | None) -> str:
    return "—" if flops is None else flops_text(flops)


def _times(ratio: float | None) -> str:
    return "—" if ratio is None else f"{ratio:.2f}×"


def _mean(column: Column, metric: str, form: str) -> str:
    figure = column.figure(metric)
    if figure is None:
        return "—"
    return "equal" if metric == PSNR and figure["mean"] >= EQUAL else format(figure["mean"], form)
