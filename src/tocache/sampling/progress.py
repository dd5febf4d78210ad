"""Which pictures of a folder are there, read off its manifest and its files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tocache.errors import SamplesError
from tocache.samples import Layout
from tocache.samples.archive import pictures
from tocache.samples.layout import key
from tocache.samples.manifest import scan

OPEN, DONE, SKIPPED = 0, 1, 2


@dataclass
class Progress:
    """One byte per picture: open, done or skipped."""

    num: int
    state: NDArray[np.uint8]
    reasons: dict[int, str] = field(default_factory=dict)  # of the skipped ones
    in_order: bool = True  # whether the manifest's lines are in the order of the index
    stale: bool = False  # whether it has lines about pictures that are open
    last: int = -1  # the index of its last line

    @classmethod
    def none(cls, num: int) -> Progress:
        return cls(num, np.zeros(num, dtype=np.uint8))

    def note(self, index: int, error: str | None = None) -> None:
        """A line about picture `index` stands in the manifest now; `error` where it was skipped."""
        self.in_order = self.in_order and index > self.last
        self.last = index
        if error is None:
            self.state[index] = DONE
        else:
            self.state[index] = SKIPPED
            self.reasons[index] = error

    def complete(self, indices: range) -> bool:
        """Whether none of these pictures is open."""
        return bool(self.state[indices.start : indices.stop].all())

    def count(self, state: int) -> int:
        return int(np.count_nonzero(self.state == state))


def read_progress(layout: Layout, num: int, *, tar: bool = False, retry_skipped: bool = False) -> Progress:
    """What a folder for `num` pictures holds: one is done that has a line in the manifest and a file of that size.

    With `tar` shards become .tar files; one that is one already is not looked into: it appears as a whole. With
    `retry_skipped`, prompts that could not be drawn are open again. Memory is 9 bytes per picture.

    Raises SamplesError where the manifest is broken, or goes beyond `num`.
    """
    progress = Progress.none(num)
    if not layout.manifest.exists():
        return progress
    sizes = np.zeros(num, dtype=np.int64)
    for _, values in scan(layout.manifest):
        index = values["index"]
        if index >= num:
            raise SamplesError(
                f"{layout.root} holds picture {index} already: --num may be raised, but not lowered to {num}"
            )
        if progress.state[index] != OPEN:
            raise SamplesError(f"{layout.manifest}: two lines are about picture {index}")
        progress.note(index, values.get("error"))
        sizes[index] = values.get("bytes", 0)
    if retry_skipped and progress.reasons:
        progress.state[progress.state == SKIPPED] = OPEN
        progress.reasons.clear()
        progress.stale = True
    for shard in range(layout.shards(num)):
        indices = layout.indices(shard, num)
        state = progress.state[indices.start : indices.stop]
        if (state == DONE).any() and not layout.tar(shard).exists():
            expected = sizes[indices.start : indices.stop]
            there = _sizes_in_part(layout, indices) if tar else _sizes_in_folder(layout, shard, len(indices))
            missing = (state == DONE) & (expected != there)
            state[missing] = OPEN
            progress.stale = progress.stale or bool(missing.any())
    return progress


def _sizes_in_part(layout: Layout, indices: range) -> NDArray[np.int64]:
    """Bytes of each file of a shard that is to become a .tar, −1 where there is none."""
    places = pictures(layout.part(layout.shard_of(indices.start)))
    return np.array([places[i].size if i in places else -1 for i in indices], dtype=np.int64)


def _sizes_in_folder(layout: Layout, shard: int, count: int) -> NDArray[np.int64]:
    """Bytes of each file of a shard's folder, −1 where there is none; no file is looked into."""
    found = np.full(count, -1, dtype=np.int64)
    try:
        with os.scandir(layout.folder(shard)) as entries:
            by_name = {entry.name.partition(".")[0]: entry.stat().st_size for entry in entries if entry.name[0] != "."}
    except FileNotFoundError:
        return found
    for row in range(count):
        found[row] = by_name.get(key(shard * layout.shard + row), -1)
    return found
