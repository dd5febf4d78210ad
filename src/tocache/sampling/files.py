"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PREFIX, SUFFIX = ".", ".tmp"
"""How files are called that are being written: `.00000001.png.tmp`."""


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` where `path` says; a process that is killed meanwhile leaves the old file, or none.

    Not forced to the disk: after a power cut the file may be cut off, which its size in the manifest shows.
    """
    new = _beside(path)
    try:
        with new.open("wb", buffering=0) as file:
            write_all(file.fileno(), data)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """`os.write`, which may write less than it is given, until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def append(path: Path, data: bytes) -> int:
    """Adds `data` to a file, which is made where it is not there, and gives its size afterwards.

    A process that is killed meanwhile leaves a part of it at most. Not forced to the disk, either.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        write_all(descriptor, data)
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name, and is forced to the disk, at the end of the with-block.

    An exception in the block leaves what was there before.
    """
    new = _beside(path)
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    os.replace(new, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Forces the names in a folder to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed process left half-written in `folder` itself."""
    if folder.is_dir():
        for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
            path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{PREFIX}{path.name}{SUFFIX}")
