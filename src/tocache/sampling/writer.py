"""The one place that writes into a folder of samples.

A picture's file comes first, and then its line in the manifest. A process that is killed at any moment leaves at worst
files without a line, which are written again, and half a line, which is cut off. A file that a power cut cut off is
known by its size.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from tocache.samples import Layout, Row
from tocache.samples.manifest import positions, scan
from tocache.sampling.drawn import Drawn
from tocache.sampling.files import remove_unfinished, whole_file, write_all, write_whole
from tocache.sampling.progress import OPEN, Progress
from tocache.sampling.shards import pack_shard, unpack_shard


class Writer:
    """Writes what was drawn; a context manager.

    tar   whether shards become .tar files when they are complete
    """

    def __init__(self, layout: Layout, progress: Progress, *, tar: bool) -> None:
        self.layout, self.progress, self.tar = layout, progress, tar
        self._rows: dict[int, Row] = {}  # of shards that are to become .tar files

    def __enter__(self) -> Writer:
        self.layout.images.mkdir(parents=True, exist_ok=True)
        self._clean()
        self._manifest = os.open(self.layout.manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for shard in self._unfinished():
            self._finish(shard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._manifest)

    def write(self, drawn: Drawn) -> None:
        """Writes the pictures of a batch, then their lines. Raises OSError where the disk is full."""
        batch, rows = drawn.batch, []
        for place, file in drawn.files.items():
            index = batch.start + place
            name = self.layout.name(index, file.suffix)
            _write_into(self.layout.images / name, file.data)
            known = (index, batch.prompts[place], batch.seeds[place])
            rows.append(Row(*known, name, len(file.data), file.sha256, round(drawn.seconds, 4)))
        for place, reason in drawn.skipped.items():
            rows.append(Row(batch.start + place, batch.prompts[place], batch.seeds[place], error=reason))
        rows.sort(key=lambda row: row.index)
        write_all(self._manifest, "".join(row.line() for row in rows).encode())
        for row in rows:
            self.progress.note(row.index, row.error)
            if self.tar:
                self._rows[row.index] = row
        for shard in sorted({self.layout.shard_of(row.index) for row in rows}):
            if self.tar and self.progress.complete(self.layout.indices(shard, self.progress.num)):
                self._finish(shard)

    def finish(self) -> None:
        """Puts the manifest into the order of the index, and forces it to the disk."""
        os.fsync(self._manifest)
        if not self.progress.in_order:
            self._rewrite()

    def _clean(self) -> None:
        """Takes away what a killed process left half-done, and lines about pictures that are not there."""
        remove_unfinished(self.layout.root)
        remove_unfinished(self.layout.images)
        if self.layout.manifest.exists():
            if self.progress.stale:
                self._rewrite()
            else:
                _cut_last_line(self.layout)
        for shard in range(self.layout.shards(self.progress.num)):
            done = self.progress.complete(self.layout.indices(shard, self.progress.num))
            if self.layout.tar(shard).exists():
                if not done:
                    unpack_shard(self.layout, shard)
                elif self.layout.folder(shard).exists():  # killed between writing the one and removing the other
                    shutil.rmtree(self.layout.folder(shard))
            elif not done:
                remove_unfinished(self.layout.folder(shard))

    def _unfinished(self) -> Iterator[int]:
        """The shards that are complete and should be .tar files; learns the rows of all that are to become ones."""
        if not self.tar:
            return
        unpacked = {s for s in range(self.layout.shards(self.progress.num)) if not self.layout.tar(s).exists()}
        for _, values in scan(self.layout.manifest) if unpacked else ():
            if self.layout.shard_of(values["index"]) in unpacked:
                self._rows[values["index"]] = Row.from_values(values)
        for shard in sorted(unpacked):
            if self.progress.complete(self.layout.indices(shard, self.progress.num)):
                yield shard

    def _finish(self, shard: int) -> None:
        """Turns a complete shard into a .tar.

        Here and now: a thread beside this one would take longer, since both wait for the interpreter at every file.
        """
        rows = [self._rows.pop(index) for index in self.layout.indices(shard, self.progress.num)]
        os.fsync(self._manifest)  # the folder goes, so its rows must be there whatever happens
        pack_shard(self.layout, shard, rows)

    def _rewrite(self) -> None:
        """The manifest anew, in the order of the index, without lines about pictures that are open."""
        starts = positions(self.layout.manifest)
        with self.layout.manifest.open("rb") as old, whole_file(self.layout.manifest) as new:
            for index in np.flatnonzero(starts >= 0):
                if self.progress.state[index] != OPEN:
                    old.seek(int(starts[index]))
                    new.write(old.readline())
                    self.progress.last = int(index)
        self.progress.in_order, self.progress.stale = True, False


def _cut_last_line(layout: Layout) -> None:
    """Takes half a line off the end of the manifest: its writer was killed."""
    with layout.manifest.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        kept = end
        while kept > 0:
            first = max(0, kept - 65536)
            file.seek(first)
            found = file.read(kept - first).rfind(b"\n")
            if found >= 0:
                kept = first + found + 1
                break
            kept = first
        if kept < end:
            file.truncate(kept)


def _write_into(path: Path, data: bytes) -> None:
    """`write_whole`, where the folder may be missing: that is known by trying."""
    try:
        write_whole(path, data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        write_whole(path, data)
