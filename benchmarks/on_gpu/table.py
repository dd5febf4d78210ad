"""Rows of figures in a CSV file, each written as soon as it is there, with what it depends on."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tocache.kernels.backends import VARIABLE
from tocache.machine import about_machine, installed_version

ABOUT = (
    "gpu",
    "kernels",
    "torch",
    "cuda",
    "triton",
    "diffusers",
    "cache-dit",
    "tocache",
    "python",
    "commit",
    "command",
    "time",
)


@cache
def about(device: torch.device) -> dict[str, Any]:
    """What every figure of this process depends on; the time is that of the first one."""
    machine = about_machine(device, "python benchmarks/gpu.py")
    versions = machine["versions"]
    return {
        "gpu": machine["hardware"],
        "kernels": os.environ.get(VARIABLE, "auto"),
        "cuda": torch.version.cuda,
        "triton": installed_version("triton"),
        **{name: versions[name] for name in ("torch", "diffusers", "cache-dit", "tocache", "python")},
        **{name: machine[name] for name in ("commit", "command", "time")},
    }


class Table:
    """A file of rows with these columns; an existing one is gone on with.

    Raises ValueError where the file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], device: torch.device) -> None:
        self.path, self.columns, self.device = path, (*columns, "error", *ABOUT), device
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                there = next(csv.reader(file), [])
            if there and tuple(there) != self.columns:
                raise ValueError(f"{path} has other columns; move it away, or name another --folder")

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row; what it does not have stays empty. Raises KeyError for a column that is none."""
        unknown = set(row) - set(self.columns)
        if unknown:
            raise KeyError(f"{self.path.name} has no column {sorted(unknown)[0]!r}")
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            if new:
                writer.writeheader()
            writer.writerow(about(self.device) | row)


def spread(name: str, values: Iterable[float], digits: int = 4) -> dict[str, float]:
    """The 20th, 50th and 80th percentile of what was timed, as columns; none where nothing was."""
    given = list(values)
    if not given:
        return {}
    return {f"{name}_p{q}": round(float(np.percentile(given, q)), digits) for q in (20, 50, 80)}


def spread_columns(*names: str) -> tuple[str, ...]:
    """What `spread` calls its columns."""
    return tuple(f"{name}_p{q}" for name in names for q in (20, 50, 80))
