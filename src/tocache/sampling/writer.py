"""The one place that writes into a folder of samples.

A picture's bytes come first, and then its line in the manifest. A process that is killed at any moment leaves at worst
pictures without a line, which are written again, and half a picture or half a line, which are cut off. A file that a
power cut cut off is known by its size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from tocache.samples import Layout, Row
from tocache.samples.manifest import positions, scan
from tocache.sampling.drawn import Drawn
from tocache.sampling.files import remove_unfinished, whole_file, write_all, write_whole
from tocache.sampling.progress import OPEN, Progress
from tocache.sampling.shards import TarShards


class Writer:
    """Writes what was drawn; a context manager.

    tar   whether shards become .tar files when they are complete
    """

    def __init__(self, layout: Layout, progress: Progress, *, tar: bool) -> None:
        self.layout, self.progress = layout, progress
        self._tars = TarShards(layout) if tar else None

    def __enter__(self) -> Writer:
        self.layout.images.mkdir(parents=True, exist_ok=True)
        self._clean()
        self._manifest = os.open(self.layout.manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        if self._tars is not None:
            self._learn_rows(self._tars)
            self._finish_tars(self._tars, range(self._shards))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._manifest)

    def write(self, drawn: Drawn) -> None:
        """Writes the pictures of a batch, then their lines. Raises OSError where the disk is full."""
        batch = drawn.batch
        files: list[tuple[Row, bytes]] = []
        for place, file in sorted(drawn.files.items()):
            index = batch.start + place
            known = (index, batch.prompts[place], batch.seeds[place], self.layout.name(index, file.suffix))
            files.append((Row(*known, len(file.data), file.sha256, round(drawn.seconds, 4)), file.data))
        if self._tars is not None:
            self._tars.append(files)
        else:
            for row, data in files:
                _write_into(self.layout.images / str(row.file), data)
        rows = [row for row, _ in files]
        for place, reason in drawn.skipped.items():
            rows.append(Row(batch.start + place, batch.prompts[place], batch.seeds[place], error=reason))
        self._note(sorted(rows, key=lambda row: row.index))

    def _note(self, rows: Sequence[Row]) -> None:
        write_all(self._manifest, "".join(row.line() for row in rows).encode())
        for row in rows:
            self.progress.note(row.index, row.error)
            if self._tars is not None:
                self._tars.note(row)
        if self._tars is not None:
            self._finish_tars(self._tars, sorted({self.layout.shard_of(row.index) for row in rows}))

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
        for shard in range(self._shards):
            done = self._done(shard)
            if self._tars is None:
                if not done:
                    remove_unfinished(self.layout.folder(shard))
            elif not done or not self.layout.tar(shard).exists():
                self._tars.open(shard)
            else:  # killed between writing the one and removing the other
                self.layout.part(shard).unlink(missing_ok=True)

    @property
    def _shards(self) -> int:
        return self.layout.shards(self.progress.num)

    def _done(self, shard: int) -> bool:
        return self.progress.complete(self.layout.indices(shard, self.progress.num))

    def _begun(self, shard: int) -> bool:
        indices = self.layout.indices(shard, self.progress.num)
        return bool(self.progress.state[indices.start : indices.stop].any())

    def _learn_rows(self, tars: TarShards) -> None:
        """Tells what the manifest says of the shards that are no .tar files yet."""
        shards = (shard for shard in range(self._shards) if not self.layout.tar(shard).exists())
        unfinished = {shard for shard in shards if self._begun(shard)}  # of the others no line is there to be read
        for _, values in scan(self.layout.manifest) if unfinished else ():
            if self.layout.shard_of(values["index"]) in unfinished:
                tars.note(Row.from_values(values))

    def _finish_tars(self, tars: TarShards, shards: Iterable[int]) -> None:
        """Makes a .tar of each shard that is complete and is none yet.

        Here and now: a thread beside this one would take longer, since both wait for the interpreter.
        """
        for shard in shards:
            if self._done(shard) and not self.layout.tar(shard).exists():
                os.fsync(self._manifest)  # the part goes, so its rows must be there whatever happens
                tars.finish(shard, self.layout.indices(shard, self.progress.num))

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
