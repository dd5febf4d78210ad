"""Strips of demo pictures without and with the cache: `python benchmarks/gallery.py -o gallery.png`.

Two rows for each demo: without a cache, and under it with the published preset, from the same seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import tocache
from tocache.demo import load_demo


@dataclass(frozen=True)
class Strip:
    demo: str
    preset: str
    asked: tuple[Any, ...]
    seed: int


STRIPS = (
    Strip(
        "demo:text",
        "paper-r70",
        (
            "a red circle above a blue square",
            "a large yellow star",
            "a green ring on the left",
            "a white cross and a black triangle",
            "an orange square to the right of a purple circle",
            "a big blue star",
        ),
        seed=1,
    ),
    Strip("demo:class", "paper-ddim50", (0, 2, 3, 5, 6, 8), seed=1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="of all strips")
    options = parser.parse_args()
    columns = len(STRIPS[0].asked)
    rows = 2 * len(STRIPS)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.98 * rows), squeeze=False)
    for number, strip in enumerate(STRIPS):
        seed = strip.seed if options.seed is None else options.seed
        pipe = load_demo(strip.demo)
        plain = draw(pipe, strip.asked, seed)
        with tocache.enabled(pipe, strip.preset):
            cached = draw(pipe, strip.asked, seed)
            report = tocache.report(pipe)
        print(f"{strip.demo}, {strip.preset}: {report.speedup:.2f}x fewer FLOPs")
        for column, asked in enumerate(strip.asked):
            above, below = axes[2 * number][column], axes[2 * number + 1][column]
            above.imshow(plain[column])
            below.imshow(cached[column])
            above.set_title(wrapped(str(asked)), fontsize=7.5)
        axes[2 * number][0].set_ylabel("without cache", fontsize=8)
        axes[2 * number + 1][0].set_ylabel(f"{strip.preset}\n{report.speedup:.2f}× fewer FLOPs", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    figure.tight_layout(pad=0.4)
    figure.savefig(options.output, dpi=130)


def draw(pipe: Any, asked: tuple[Any, ...], seed: int) -> list[np.ndarray[Any, Any]]:
    """One picture for each of `asked`, each from its own seed, as a user would draw it."""
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for i, one in enumerate(asked):
        arguments = {"prompt": one, "clean_caption": False} if isinstance(one, str) else {"class_labels": [one]}
        generator = torch.Generator().manual_seed(seed + i)
        pictures.append(np.asarray(pipe(**arguments, generator=generator).images[0]))
    return pictures


def wrapped(text: str, width: int = 24) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


if __name__ == "__main__":
    main()
