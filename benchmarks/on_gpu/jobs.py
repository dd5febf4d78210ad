"""What the parts of the benchmark are made of: pieces of work, each of which gives one row."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Options:
    """How much is measured.

    rounds  runs of each contender, in turns
    tiny    of sizes at which a CPU is done in seconds
    ahead   modulations of all steps of a run are computed in one product, with the cache and without
    """

    rounds: int
    tiny: bool
    ways: tuple[str, ...]
    multiple: int | None = None
    peers: str = "all"
    every: bool = False
    ahead: bool = False


@dataclass(frozen=True)
class Job:
    """One row: what it is called by, and what measures the rest of it."""

    labels: Mapping[str, Any]
    measure: Callable[[], Mapping[str, Any]]

    def row(self) -> dict[str, Any]:
        """The row; where measuring fails, with the error in place of figures. Leaves no memory taken."""
        try:
            return {**self.labels, **self.measure()}
        except Exception as error:  # one row that cannot be must not cost the others
            lines = str(error).strip().splitlines() or [""]
            return {**self.labels, "error": f"{type(error).__name__}: {lines[0]}"[:300]}
        finally:
            tidy()


def tidy() -> None:
    """Gives back what nobody holds: compiled code, its memory, and that of the allocator."""
    if "torch._dynamo" in sys.modules:  # nothing was compiled otherwise, and importing it takes seconds
        torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
