"""A local search from a good start: full steps move as long as the measured loss falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Steps = tuple[int, ...]


def refine(start: Steps, steps: int, loss: Callable[[Steps], float], trials: int) -> Steps:
    """The best full steps that `trials` calls of `loss` find, from `start` on; `loss` is asked of each once.

    Each round tries every move of one full step to a free neighbour, nearest first, and goes on from the first that
    is better. Ends early where no move is.
    """
    known: dict[Steps, float] = {start: loss(start)}
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


def _moves(full: Steps, steps: int) -> Iterator[Steps]:
    """One full step, but the first, moved by one or by two to a step that is not full."""
    for distance in (1, 2):
        for i in range(len(full) - 1, 0, -1):
            for to in (full[i] - distance, full[i] + distance):
                if 0 < to < steps and to not in full:
                    yield tuple(sorted((*full[:i], *full[i + 1 :], to)))
