"""What settings do to pictures: the strip and the table of docs/safe.md.

    .venv/bin/python benchmarks/safe.py -o docs/images/safe-digits.jpg

The same pictures without a cache and under each setting, each from its own seed. The table is printed as the page has
it; a row of benchmarks/results/safe.jsonl holds the figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from tocache.cli.progress import work_bar
from tocache.evaluation.results import JUDGE_LOSS
from tocache.evaluation.scores import WHOLE
from tocache.machine import about_machine
from tocache.reporting import Column, Comparison, compare

RESULTS = Path(__file__).parent / "results" / "safe.jsonl"
METHODS = (
    "quality,balanced,fast,fora:interval=2,fora:interval=3,fora:interval=5,toca,taylorseer:interval=3,"
    "taylorseer:interval=5"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:class")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with work_bar() as tell:
        found = compare(options.model, methods=options.methods, prompts=options.prompts, tell=tell)
    draw(found, options.output)
    for line in table(found):
        print(line)
    columns = {column.label: {"flops ratio": _ratio(column), **_figures(found, column)} for column in found.columns}
    row = {"model": options.model, "pictures": len(found.tasks), "columns": columns}
    row |= about_machine(torch.device("cpu"), f"python benchmarks/safe.py --model {options.model}")
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def draw(found: Comparison, path: Path) -> None:
    """A row of pictures for each column of the comparison."""
    shape = (len(found.columns), len(found.tasks))
    figure, axes = plt.subplots(*shape, figsize=(1.0 * shape[1] + 1.4, 1.02 * shape[0]), squeeze=False)
    for row, column in zip(axes, found.columns, strict=True):
        for axis, one in zip(row, column.drawn, strict=True):
            axis.imshow(one.frames[0])
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
        saved = f"\n{_ratio(column):.1f}× fewer FLOPs" if column.report is not None else ""
        row[0].set_ylabel(f"{column.label}{saved}", fontsize=7, rotation=0, ha="right", va="center")
    figure.subplots_adjust(left=1.4 / (shape[1] + 1.4), right=1, bottom=0, top=1, wspace=0.03, hspace=0.03)
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 88})


def table(found: Comparison) -> Iterator[str]:
    yield "| setting | FLOPs | PSNR, dB | 1 − SSIM | distance in the judge's features | read as asked |"
    yield "|---|---|---|---|---|---|"
    for column in found.columns:
        read = column.figure(WHOLE)
        right = "" if read is None else f"{round(read['mean'] * len(found.tasks))} of {len(found.tasks)}"
        if column.report is None:
            yield f"| no cache | | | | | {right} |"
            continue
        psnr, ssim, judge = (column.figure(name) for name in ("psnr", "ssim", JUDGE_LOSS))
        yield (
            f"| `{column.label}` | {_ratio(column):.2f}× fewer | {_said(psnr, '.1f')} | "
            f"{'' if ssim is None else format(1 - ssim['mean'], '.4f')} | {_said(judge, '.2g')} | {right} |"
        )


def _said(figure: dict[str, float] | None, form: str) -> str:
    if figure is None:
        return ""
    mean, low, high = (format(figure[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} … {high})"


def _ratio(column: Column) -> float:
    return 1.0 if column.report is None else column.report.speedup or 1.0


def _figures(found: Comparison, column: Column) -> dict[str, Any]:
    return {name: column.figure(name) for name in found.metrics}


if __name__ == "__main__":
    main()
