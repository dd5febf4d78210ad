"""What runs in an actor of Ray: a pipeline, and what makes files of its pictures."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tocache.sampling.batches import Batch
from tocache.sampling.drawer import Drawer
from tocache.sampling.drawn import Drawn
from tocache.sampling.isolate import why_not
from tocache.sampling.workers import ENCODERS, Encoding, Load

AT_ONCE = 2
"""Batches that a worker has: one is drawn while the files of the other are made and sent."""


class Actor:
    """Draws batches, one at a time, whichever thread of the actor it is."""

    def __init__(self, load: Load, hide_gpus: bool) -> None:
        self._load, self._hide_gpus = load, hide_gpus
        self._drawer: Drawer | None = None
        self._encoders = ThreadPoolExecutor(ENCODERS)
        self._turn = threading.Lock()

    def about(self) -> Mapping[str, Any]:
        """Loads: an error in __init__ would reach the driver as the death of the actor, and no more."""
        if self._hide_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._drawer = self._load()
        return self._drawer.about()

    def draw(self, batch: Batch) -> Drawn:
        assert self._drawer is not None
        with self._turn:
            encoding = Encoding(self._drawer, batch, self._encoders)
        return encoding.wait()

    def why_not(self, batch: Batch, row: int) -> str | None:
        assert self._drawer is not None
        with self._turn:
            return why_not(self._drawer, batch, row)
