"""What was drawn, file by file, with its prompts: what the exports lay out anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.sets.pictures import SUFFIXES

VIDEOS = frozenset({".mp4", ".gif"})


@dataclass(frozen=True)
class Item:
    """One file.

    number   how many of the same prompt came before it
    """

    prompt: str
    number: int
    suffix: str
    data: bytes


@dataclass(frozen=True)
class Drawn:
    """The files of a folder of `tocache sample`, or of any folder, in the order of their paths, with `prompts`."""

    folder: Path
    prompts: Sequence[str]

    def items(self) -> Iterator[Item]:
        """Every file with its prompt, read one at a time."""
        seen: Counter[str] = Counter()
        for prompt, (suffix, data) in zip(self.prompts, _files(self.folder), strict=True):
            yield Item(prompt, seen[prompt], suffix, data)
            seen[prompt] += 1


def open_drawn(folder: str | Path, prompts: Sequence[str] | None = None) -> Drawn:
    """The files of `folder`; their prompts are in its manifest, or given, one per file in the order of their paths.

    Raises OptionError where the folder holds no files, or their prompts are not known.
    """
    folder = Path(folder)
    from tocache.samples import MANIFEST, Samples

    if prompts is None and (folder / MANIFEST).is_file():
        rows = Samples(folder).rows(skipped=False)
        prompts = [str(row.prompt) for row in rows]
        return Drawn(folder, prompts)
    count = len(_paths(folder))
    if not count:
        raise OptionError(f"{folder}: holds no pictures or videos ({', '.join(sorted(SUFFIXES | VIDEOS))})")
    if prompts is None:
        raise OptionError(f"{folder}: the prompts are not known; --prompts gives a file with one per picture")
    if len(prompts) != count:
        raise OptionError(f"{folder}: {len(prompts)} prompts for {count} files; allowed: one for each, in their order")
    return Drawn(folder, list(prompts))


def write(path: Path, data: bytes | str) -> None:
    """Writes a file and the folders above it. Raises OptionError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error.strerror or error}") from error


def new_folder(folder: Path) -> None:
    """Raises OptionError where `folder` is there and not empty: files of two exports would mix."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder}: is not empty; export into a new folder")


def read_json(file: Path) -> Any:
    """Raises OptionError where `file` is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{file}: cannot be read as JSON: {error}") from error


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """One object per line. Raises OptionError that names the line where one is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(f"{file}: cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise OptionError(f"{file}, line {number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise OptionError(f"{file}, line {number}: {type(row).__name__}; allowed: an object")
        rows.append(row)
    return rows


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise OptionError(f"{folder}: is not a folder")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES | VIDEOS)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    from tocache.samples import MANIFEST, Samples

    if (folder / MANIFEST).is_file():
        for row, data in Samples(folder).files():
            yield Path(str(row.file)).suffix, data
    else:
        for path in _paths(folder):
            yield path.suffix.lower(), path.read_bytes()
