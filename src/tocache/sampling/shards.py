"""Shards as WebDataset .tar files: a folder becomes one, and one a folder again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tocache.errors import SamplesError
from tocache.samples import Layout, Row
from tocache.samples.layout import key
from tocache.sampling.files import whole_file, write_whole


def write_tar(path: Path, members: Iterable[tuple[Row, bytes]]) -> None:
    """Writes a WebDataset shard: of each picture its file, its row as .json, and its prompt as .txt or class as .cls.

    The same members give the same bytes: no times, no owners, and no latencies.
    """
    with whole_file(path) as file:
        for row, data in members:
            name = key(row.index)
            _add(file, name + os.path.splitext(str(row.file))[1], data)
            _add(file, f"{name}.json", row.line(timed=False).encode())
            _add(file, f"{name}.{'cls' if isinstance(row.prompt, int) else 'txt'}", str(row.prompt).encode())
        file.write(bytes(2 * tarfile.BLOCKSIZE))  # which end an archive; it fills whole records
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE))


def pack_shard(layout: Layout, shard: int, rows: Iterable[Row]) -> None:
    """Turns the folder of a complete shard into its .tar. `rows` are those of the shard, in the order of the index.

    Raises SamplesError where a file is not what its row says; the folder stays then.
    """
    drawn = [row for row in rows if row.error is None]
    write_tar(layout.tar(shard), ((row, _checked(layout, row)) for row in drawn))
    shutil.rmtree(layout.folder(shard), ignore_errors=True)


def unpack_shard(layout: Layout, shard: int) -> None:
    """Turns the .tar of a shard into its folder again, so that pictures can be added."""
    folder = layout.folder(shard)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(layout.tar(shard)) as tar:
            for name, data in _pictures(tar):
                write_whole(folder / name, data)
    except (OSError, tarfile.TarError) as error:
        raise SamplesError(f"{layout.tar(shard)}: cannot be unpacked: {error}") from error
    layout.tar(shard).unlink()


def _pictures(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        data = tar.extractfile(member)
        if data is not None and Path(member.name).suffix not in (".json", ".txt", ".cls"):
            yield Path(member.name).name, data.read()


def _checked(layout: Layout, row: Row) -> bytes:
    path = layout.images / str(row.file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise SamplesError(
            f"{path}: its bytes are not those in the manifest; delete it and run the same command again: "
            "it is drawn anew"
        )
    return data


def _add(file: BinaryIO, name: str, data: bytes) -> None:
    """One member: header and data. `TarFile.addfile` does the same, with more copies than a small file bears."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    file.write(data)
    file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
