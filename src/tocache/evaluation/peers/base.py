"""What a peer is: a name, where it comes from, and its settings from mild to strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tocache.evaluation.contenders import Contender

Draw = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """A way to be faster that is not ours.

    source     package and part of it
    settings   (pipeline, steps, draw) → its settings, mild ones first; `draw()` draws once, for peers that must be
               calibrated. Raises whatever the package raises where it cannot run.
    """

    name: str
    source: str
    settings: Callable[[Any, int, Draw], Sequence[Contender]]
