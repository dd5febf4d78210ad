"""The manifest: one JSON object per line, one line per picture."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import SamplesError

_OF_ALL = frozenset({"index", "prompt", "seed"})
_OF_FILES = ("file", "bytes", "sha256", "seconds")
_OF_DRAWN = frozenset(_OF_FILES)


@dataclass(frozen=True)
class Row:
    """One picture: drawn, or skipped because its prompt could not be drawn (`error` says why)."""

    index: int
    prompt: str | int  # an integer is the number of a class
    seed: int  # of its own generator
    file: str | None = None  # shard and name
    bytes: int | None = None
    sha256: str | None = None
    seconds: float | None = None  # of the call that drew it, for all pictures of its batch
    error: str | None = None

    def line(self, *, timed: bool = True) -> str:
        """The row as a line of the manifest; without `timed` it leaves out what differs from run to run."""
        values: dict[str, Any] = {"index": self.index, "prompt": self.prompt, "seed": self.seed}
        if self.error is None:
            values |= {"file": self.file, "bytes": self.bytes, "sha256": self.sha256}
            if timed:
                values["seconds"] = self.seconds
        else:
            values["error"] = self.error
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, line: builtins.bytes) -> Row:
        """The row that a line holds. Raises ValueError where it holds none."""
        return cls.from_values(_values_of(line))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Row:
        """The row of a line's values."""
        file, size, sha256, seconds = (values.get(name) for name in _OF_FILES)
        return cls(values["index"], values["prompt"], values["seed"], file, size, sha256, seconds, values.get("error"))


def scan(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line's values with its position, in the order of the file, read as they are asked for.

    A last line without a line break is left out: it is being written, or its writer was stopped.

    Raises SamplesError where the file cannot be read, or a line holds no row.
    """
    try:
        with path.open("rb") as file:
            position = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield position, _values_of(line)
                except ValueError as error:
                    raise SamplesError(
                        f"{path}, line {number}: not a row of a manifest; delete this line, and what it stood for is "
                        "drawn anew"
                    ) from error
                position += len(line)
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read: {error.strerror or error}") from error


def _values_of(line: bytes) -> dict[str, Any]:
    values = json.loads(line)
    if not isinstance(values, dict) or not values.keys() >= _OF_ALL:
        raise ValueError("not a row")
    if "error" not in values and not values.keys() >= _OF_DRAWN:
        raise ValueError("not a row")
    return values


def positions(path: Path) -> NDArray[np.int64]:
    """Where in the manifest each picture's line begins, by index; −1 where there is none.

    Raises SamplesError as `scan` does, and where two lines are about one picture.
    """
    starts = np.full(1024, -1, dtype=np.int64)
    end = 0
    for position, values in scan(path):
        index = values["index"]
        if index >= len(starts):
            grown = np.full(max(2 * len(starts), index + 1), -1, dtype=np.int64)
            grown[: len(starts)] = starts
            starts = grown
        if starts[index] >= 0:
            raise SamplesError(f"{path}: two lines are about picture {index}")
        starts[index] = position
        end = max(end, index + 1)
    return starts[:end]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest in the order of the index. Raises SamplesError as `positions` does."""
    starts = positions(path)
    with path.open("rb") as file:
        for start in starts:
            if start >= 0:
                if file.tell() != start:
                    file.seek(int(start))
                yield Row.of(file.readline())
