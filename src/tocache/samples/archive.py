"""Shards that are .tar files, read as far as they were written."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tocache.errors import SamplesError

MEMBERS = 3
"""Of each picture: its file, its row as .json, and its prompt as .txt or class as .cls."""


@dataclass(frozen=True)
class Place:
    """Where something lies in a .tar, in bytes: from the header at `start` to `end`; `size` bytes of it from `data`."""

    start: int
    data: int
    size: int
    end: int


def members(file: BinaryIO, path: Path, *, unfinished: bool = False) -> Iterator[tuple[str, Place]]:
    """Names and places of the members of an open .tar, in their order.

    Raises SamplesError, which names `path`, where it is broken or cut off; with `unfinished` that is the end.
    """
    size, at = file.seek(0, os.SEEK_END), 0
    while True:
        file.seek(at)
        try:
            info = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
            place = _place_of(info, at)
            if place.end > size:
                raise tarfile.ReadError("unexpected end of data")
        except tarfile.TarError as error:
            if unfinished or isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                return
            raise SamplesError(f"{path}: cannot be read: {error}") from error
        yield info.name, place
        at = place.end


def pictures(path: Path) -> dict[int, Place]:
    """The pictures of a .tar that is being written, by index; each with all its members, `data` being its file's.

    Where one was written twice it is the last one. Empty where there is no such file.
    """
    found: dict[int, Place] = {}
    try:
        with path.open("rb") as file:
            group: list[Place] = []
            for name, place in members(file, path, unfinished=True):
                group.append(place)
                if len(group) == MEMBERS:
                    first = group[0]
                    found[int(name.partition(".")[0])] = Place(first.start, first.data, first.size, place.end)
                    group.clear()
    except FileNotFoundError:
        pass
    return found


def _place_of(info: tarfile.TarInfo, at: int) -> Place:
    data = at + tarfile.BLOCKSIZE
    return Place(at, data, info.size, data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
