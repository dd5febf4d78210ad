"""What a peer is: a name, where it comes from, and its settings from mild to strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from packaging.version import Version

from tocache.errors import OptionError
from tocache.evaluation.contenders import Contender

Draw = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """A way to be faster that is not ours.

    source     package and part of it
    diffusers  the oldest version that has it as it is used here; None: any
    settings   (pipeline, steps, draw) → its settings, mild ones first; `draw()` draws once, for peers that must be
               calibrated. Raises whatever the package raises where it cannot run.
    """

    name: str
    source: str
    settings: Callable[[Any, int, Draw], Sequence[Contender]]
    diffusers: str | None = None

    def check(self) -> None:
        """Raises OptionError where the package is too old."""
        here = version("diffusers")
        if self.diffusers is not None and Version(here) < Version(self.diffusers):
            raise OptionError(f"{self.name} needs diffusers {self.diffusers} or newer; here is {here}")
