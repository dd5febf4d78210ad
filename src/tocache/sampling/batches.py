"""Which pictures are drawn together, and from which seeds.

A picture's bits may depend on how many are drawn in one call, since kernels are chosen by shape, and on its place among
them. So both follow from its index alone: batch b always holds the pictures b × size … (b + 1) × size − 1, all of them,
also where some are there already, or lie behind the last one that is wanted. What a batch is drawn for may differ; what
is drawn never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tocache.sampling.progress import DONE, SKIPPED, Progress
from tocache.sampling.prompts import Prompt, Prompts

SEEDS = 2**32
"""torch's generator on the CPU (mt19937) reads no more than 32 bits of its seed."""
_GOLDEN = 0x9E3779B1
"""2³² ÷ the golden ratio: its multiples lie as far from each other as can be (Knuth, TAOCP vol. 3, §6.4)."""


def seed_of(seed: int, index: int) -> int:
    """The seed of picture `index`'s generator in a run of seed `seed`, 0 … 2³² − 1.

    Different for all pictures of a run. With seed 0 it is the index. Runs of seeds 0 … 999 share none among their
    first million pictures, so that several runs are several samples.
    """
    return (seed * _GOLDEN + index) % SEEDS


@dataclass(frozen=True)
class Batch:
    """The pictures `start`, `start` + 1, … that are drawn in one call."""

    start: int
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    wanted: tuple[int, ...]  # the rows that are to be written
    skipped: Mapping[int, str] = field(default_factory=dict)  # rows whose prompt cannot be drawn, and why

    def __len__(self) -> int:
        return len(self.prompts)

    def drawable(self, skipped: Mapping[int, str]) -> tuple[Prompt, ...]:
        """The prompts, those in `skipped` replaced by another one: the others are drawn as if all were there."""
        sound = next(prompt for row, prompt in enumerate(self.prompts) if row not in skipped)
        return tuple(sound if row in skipped else prompt for row, prompt in enumerate(self.prompts))


def open_batches(progress: Progress, prompts: Prompts, *, seed: int, size: int) -> Iterator[Batch]:
    """The batches with pictures that are neither drawn nor skipped, each with what is known about its prompts."""
    for start in range(0, progress.num, size):
        state = progress.state[start : start + size]  # shorter at the end
        wanted = tuple(int(row) for row in np.flatnonzero((state != DONE) & (state != SKIPPED)))
        if wanted:
            indices = range(start, start + size)
            yield Batch(
                start,
                tuple(prompts[i] for i in indices),
                tuple(seed_of(seed, i) for i in indices),
                wanted,
                {int(row): progress.reasons[start + int(row)] for row in np.flatnonzero(state == SKIPPED)},
            )
