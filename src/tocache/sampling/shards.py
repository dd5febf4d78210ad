"""Shards as WebDataset .tar files."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from tocache.errors import SamplesError
from tocache.samples import Layout, Row
from tocache.samples.archive import Place, pictures
from tocache.samples.layout import key
from tocache.sampling.files import append, whole_file


def write_tar(path: Path, members: Iterable[tuple[Row, bytes]]) -> None:
    """Writes a WebDataset shard: of each picture its file, its row as .json, and its prompt as .txt or class as .cls.

    The same members give the same bytes: no times, no owners, and no latencies.
    """
    _write(path, (_members(row, data) for row, data in members))


class TarShards:
    """The shards that are to become .tar files and are none yet.

    A picture is appended to its shard's `.tar.part` with all its members, and when the shard is complete these are put
    into the order of the index. Files of their own, deleted afterwards, would cost more than all else: ext4 without a
    journal looks at every file that was deleted within minutes whenever it makes a new one.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._rows: dict[int, Row] = {}
        self._places: dict[int, Place] = {}

    def open(self, shard: int) -> None:
        """Goes on with a shard: what a killed process left half-written is cut off, a .tar becomes one to append to."""
        part = self.layout.part(shard)
        if self.layout.tar(shard).exists():
            os.replace(self.layout.tar(shard), part)
        if part.exists():
            found = pictures(part)
            self._places |= found
            os.truncate(part, max((place.end for place in found.values()), default=0))

    def append(self, files: Sequence[tuple[Row, bytes]]) -> None:
        """Adds pictures, whose `row` is not in the manifest before this returns. Raises OSError where it cannot."""
        for shard, group in groupby(files, lambda one: self.layout.shard_of(one[0].index)):
            blocks = [(row, _members(row, data)) for row, data in group]
            end = append(self.layout.part(shard), b"".join(block for _, block in blocks))
            for row, block in reversed(blocks):
                start = end - len(block)
                self._places[row.index] = Place(start, start + tarfile.BLOCKSIZE, row.bytes or 0, end)
                end = start

    def note(self, row: Row) -> None:
        """Picture `row.index` is in the manifest, drawn or skipped."""
        self._rows[row.index] = row

    def finish(self, shard: int, indices: range) -> None:
        """Turns a complete shard of these pictures into its .tar.

        Raises SamplesError where a file is not what its row says; what was appended stays then.
        """
        rows = [self._rows.pop(index) for index in indices]
        places = {index: self._places.pop(index, None) for index in indices}
        drawn = [(row, places[row.index]) for row in rows if row.error is None]
        _write(self.layout.tar(shard), _checked(self.layout.part(shard), drawn))
        self.layout.part(shard).unlink(missing_ok=True)


def _checked(part: Path, drawn: Sequence[tuple[Row, Place | None]]) -> Iterator[bytes]:
    """What each picture is in a .tar."""
    if not drawn:  # not one could be: there is no part
        return
    with part.open("rb") as file:
        for row, place in drawn:
            found = b""
            if place is not None:
                file.seek(place.start)
                block = file.read(place.end - place.start)
                first = place.data - place.start
                found = block[first : first + place.size]
            if hashlib.sha256(found).hexdigest() != row.sha256:
                raise SamplesError(
                    f"{part}: the bytes of picture {row.index} are not those in the manifest; delete this file and "
                    "run the same command again: its pictures are drawn anew"
                )
            yield block


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    with whole_file(path) as file:
        for block in blocks:
            file.write(block)
        file.write(bytes(2 * tarfile.BLOCKSIZE))  # which end an archive; it fills whole records
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE))


def _members(row: Row, data: bytes) -> bytes:
    """A picture as it lies in a .tar."""
    name = key(row.index)
    return b"".join(
        (
            *_member(name + os.path.splitext(str(row.file))[1], data),
            *_member(f"{name}.json", row.line(timed=False).encode()),
            *_member(f"{name}.{'cls' if isinstance(row.prompt, int) else 'txt'}", str(row.prompt).encode()),
        )
    )


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """One member: header, data, padding."""
    return header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE)


def header(name: str, size: int) -> bytes:
    """What `TarInfo.tobuf` gives, which takes longer than all else that a small picture costs.

    name  ASCII, up to 100 characters
    size  below 8 GiB: 11 octal digits (POSIX.1-1988, ustar)
    """
    place, digits = name.encode("ascii"), b"%011o" % size
    # the checksum is that of the header with spaces in its place, which _HEADER has
    checksum = b"%06o\0" % (_HEADER_SUM + sum(place) + sum(digits))
    return b"".join((place, _HEADER[len(place) : 124], digits, _HEADER[135:148], checksum, _HEADER[155:]))


def _empty_header() -> bytes:
    """A header without name, size and checksum: zeros in place of the first two, spaces in place of the third."""
    info = tarfile.TarInfo()
    info.mode = 0o644
    made = info.tobuf(tarfile.USTAR_FORMAT)
    return b"".join((made[:124], bytes(11), made[135:148], b" " * 8, made[156:]))


_HEADER = _empty_header()
_HEADER_SUM = sum(_HEADER)
