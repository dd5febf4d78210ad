"""What was measured so far, in a folder, so that a tuning that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from tocache.errors import OptionError

FORMAT = "tocache-trials"
LINES = "measurements.jsonl"

Arrays = dict[str, NDArray[Any]]


class Memo:
    """Measurements by name, each written when it is made: a line of JSON, arrays as a file.

    A process that is killed loses the one that it was making. One process at a time has the folder, in a with-block.

    Args:
        folder: None keeps all in memory.
        about: what the measurements depend on.

    Raises OptionError for a folder that holds others, that holds something else, or that is in use.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, dict(about)
        self.made = 0  # by this process
        self._values: dict[str, Any] = {}
        self._arrays: dict[str, Arrays] = {}
        self._lock: BaseFileLock | None = None
        if folder is not None:
            self._open(folder)

    def __enter__(self) -> Memo:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def value(self, name: str, measure: Callable[[], Any]) -> Any:
        """The JSON value of that name, measured where it is not known."""
        if name not in self._values:
            line = json.dumps({"name": name, "value": measure()})
            self._append(line)
            self._values[name] = json.loads(line)["value"]  # the same whether it was just measured or read
            self.made += 1
        return self._values[name]

    def arrays(self, name: str, measure: Callable[[], Arrays]) -> Arrays:
        """The arrays of that name, measured where they are not known."""
        if name not in self._arrays:
            path = None if self.folder is None else self.folder / f"{name}.npz"
            if path is not None and path.exists():
                self._arrays[name] = _read_arrays(path)
            else:
                self._arrays[name] = measure()
                self.made += 1
                if path is not None:
                    _write_arrays(path, self._arrays[name])
        return self._arrays[name]

    def count(self, prefix: str) -> int:
        """How many names begin so."""
        return sum(name.startswith(prefix) for name in self._values)

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{folder}: trials cannot be kept there: {error.strerror or error}") from error
        self._lock = FileLock(folder / "lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise OptionError(f"{folder} is in use by another tuning; wait for it or name another plan") from error
        path = folder / LINES
        if path.exists() and path.read_bytes().count(b"\n"):
            self._read(path)
        else:
            path.write_bytes(b"")
            self._append(json.dumps({"format": FORMAT, "about": self.about}))

    def _read(self, path: Path) -> None:
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]  # a line that was being written when the process was killed
        try:
            head, *lines = [json.loads(line) for line in whole.splitlines()]
            if head["format"] != FORMAT:
                raise ValueError(head["format"])
            self._values = {line["name"]: line["value"] for line in lines}
            about = dict(head["about"])
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{path} holds no trials of a tuning: {error}; delete it or name another plan") from error
        for name, value in json.loads(json.dumps(self.about)).items():
            if about.get(name) != value:
                raise OptionError(
                    f"{path} holds trials with {name}={about.get(name)!r}, not {value!r}; "
                    "delete its folder or name another plan"
                )
        os.truncate(path, len(whole))

    def _append(self, line: str) -> None:
        if self.folder is None:
            return
        with (self.folder / LINES).open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {error}; delete it") from error


def _write_arrays(path: Path, arrays: Arrays) -> None:
    """Writes the file whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    fresh.replace(path)
