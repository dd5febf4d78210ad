"""What `tocache plan --on` prints: a prediction, said to be one."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocache.plan.roofline import UNCACHED, Prediction, Work

_GIGA = 1e9


def show_predictions(predictions: Mapping[str, Prediction]) -> None:
    """Prints what a step of each kind asks of a GPU, and what the run would take there.

    The first prediction is that of the plan as it is, the others are called by how they differ from it.
    """
    prediction, *_ = predictions.values()
    console = Console(highlight=False, markup=False)
    processor = prediction.processor
    console.print()
    console.print(Text(f"predicted for {processor.name}, not measured: a step of each kind, on average", "bold"))
    console.print(_table(prediction))
    console.print(
        f"time: the larger of FLOPs ÷ {processor.flops_per_second / 1e12:.4g} TFLOP/s and bytes ÷ "
        f"{processor.bytes_per_second / 1e12:.4g} TB/s (ridge {processor.ridge:.0f} FLOPs per byte; "
        f"{processor.source}); memory: share of it in which the bytes are the larger; "
        "kernels come near neither limit",
        style="bright_black",
    )
    for name, one in predictions.items():
        console.print(f"{name}: {_sentence(one)}" if name else _sentence(one))


def _table(prediction: Prediction) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("step", overflow="fold")
    for name in ("GFLOPs", "weights, GB", "activations", "cache", "time, ms", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, work in prediction.work.items():
        count = "" if kind == UNCACHED else f" × {prediction.steps[kind]}"
        table.add_row(f"{kind}{count}", *_cells(_sum(work)), style="bold")
        for site, one in work.items():
            table.add_row(f"  {site}", *_cells(one))
    return table


def _cells(work: Work) -> list[str]:
    numbers = [f"{work.flops / _GIGA:.1f}"]
    numbers += [f"{part / _GIGA:.3f}" for part in (work.weights, work.activations, work.cache)]
    return [*numbers, f"{work.seconds * 1e3:.3f}", f"{work.bound:.0%}"]


def _sum(work: Mapping[str, Work]) -> Work:
    each = list(work.values())
    seconds = sum(one.seconds for one in each)
    return Work(
        flops=sum(one.flops for one in each),
        weights=sum(one.weights for one in each),
        activations=sum(one.activations for one in each),
        cache=sum(one.cache for one in each),
        seconds=seconds,
        bound=sum(one.bound * one.seconds for one in each) / seconds,
    )


def _sentence(prediction: Prediction) -> str:
    uncached, cached = (float(steps.sum()) for steps in (prediction.uncached_by_step, prediction.by_step))
    return (
        f"loop {uncached * 1e3:.4g} ms → {cached * 1e3:.4g} ms, {prediction.realised_speedup:.2f}× faster at "
        f"{prediction.flops_speedup:.2f}× fewer FLOPs: {prediction.realised_over_flops:.2f} of what the FLOPs say"
    )
