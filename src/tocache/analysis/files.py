"""What studies write: tables as CSV, arrays as npz, and beside each of them what its figures depend on, as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError

Row = Mapping[str, str | int | float | bool | None]


def write_table(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Writes rows of the same columns to `path`, and `about` beside it as .json. Raises OptionError."""
    with _writing(path):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        _write_about(path, about)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Writes arrays by name to `path`, and `about` beside it as .json. Raises OptionError."""
    with _writing(path):
        with path.open("wb") as file:  # savez would put another ending behind a name of its own
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # mypy takes them for its options
        _write_about(path, about)


def _write_about(path: Path, about: Mapping[str, Any]) -> None:
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error.strerror or error}") from error
