"""Strips of demo pictures without and with the cache: `python benchmarks/gallery.py -o gallery.png`.

For each demo a row without a cache, then one for each of its presets, all from the same seeds.
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
    presets: tuple[str, ...]
    asked: tuple[Any, ...]
    seed: int


STRIPS = (
    Strip(
        "demo:text",
        ("balanced", "paper-r70"),
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
    Strip("demo:class", ("balanced", "paper-ddim50"), (0, 2, 3, 5, 6, 8), seed=1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, help="of all strips")
    parser.add_argument("--demo", choices=[strip.demo for strip in STRIPS], help="the strip of this one alone")
    options = parser.parse_args()
    strips = [strip for strip in STRIPS if options.demo in (None, strip.demo)]
    columns = len(strips[0].asked)
    rows = sum(1 + len(strip.presets) for strip in strips)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.9 * rows), squeeze=False)
    row = iter(axes)
    for strip in strips:
        seed = strip.seed if options.seed is None else options.seed
        pipe = load_demo(strip.demo)
        above = next(row)
        show(above, "without cache", draw(pipe, strip.asked, seed))
        for axis, asked in zip(above, strip.asked, strict=True):
            axis.set_title(wrapped(str(asked)), fontsize=7.5)
        for preset in strip.presets:
            with tocache.enabled(pipe, preset):
                cached = draw(pipe, strip.asked, seed)
                report = tocache.report(pipe)
            print(f"{strip.demo}, {preset}: {report.speedup:.2f}x fewer FLOPs")
            show(next(row), f"{preset}\n{report.speedup:.2f}× fewer FLOPs", cached)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    figure.tight_layout(pad=0.4)
    figure.savefig(options.output, dpi=130)


def show(row: Any, label: str, pictures: list[np.ndarray[Any, Any]]) -> None:
    for axis, picture in zip(row, pictures, strict=True):
        axis.imshow(picture)
    row[0].set_ylabel(label, fontsize=8)


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
