"""A local search from a good start: full and partial steps move as long as the measured loss falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Steps = tuple[int, ...]


class Spots(NamedTuple):
    """Which steps are full, the first of them 0, and which are partial; both ascending."""

    full: Steps
    partial: Steps = ()


def refine(start: Spots, steps: int, loss: Callable[[Spots], float], trials: int) -> Spots:
    """The best spots that `trials` calls of `loss` find, from `start` on; `loss` is asked of each once.

    Each round tries every move of one step to a free neighbour, nearest first, and goes on from the first that is
    better. Ends early where no move is.
    """
    known: dict[Spots, float] = {start: loss(start)}
    best = start
    improved = True
    while improved:
        improved = False
        for moved in _moves(best, steps):
            if moved in known:
                continue
            if len(known) >= trials:
                return best
            known[moved] = loss(moved)
            if known[moved] < known[best]:
                best, improved = moved, True
                break
    return best


def _moves(spots: Spots, steps: int) -> Iterator[Spots]:
    """One full step, but the first, or one partial step, moved by one or by two to a step that is neither."""
    taken = {*spots.full, *spots.partial}
    for distance in (1, 2):
        for which, placed in enumerate(spots):
            for at in reversed(placed[1:] if which == 0 else placed):
                for to in (at - distance, at + distance):
                    if 0 < to < steps and to not in taken:
                        moved = tuple(sorted({*placed, to} - {at}))
                        yield Spots(moved, spots.partial) if which == 0 else Spots(spots.full, moved)
