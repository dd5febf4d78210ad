"""Curves of loss against speed-up: which settings to measure, and what a curve says between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_NEAR = 0.005  # a relative difference below which a setting counts as exactly at a point


@dataclass(frozen=True)
class AtPoint:
    """What one curve says at one speed-up."""

    point: float
    loss: float | None  # None where the curve does not reach the point
    reach: float  # the largest speed-up on the curve


def bracket(ratios: Sequence[float], points: Sequence[float]) -> list[int]:
    """Which settings to measure: for each point the nearest one at or below it, and the nearest at or above it.

    ratios   FLOPs uncached ÷ FLOPs of each setting, in any order

    Returns positions in `ratios`, ascending. Where no setting reaches a point, the strongest one is taken.
    """
    chosen = set()
    for point in points:
        below = [i for i, ratio in enumerate(ratios) if ratio <= point * (1 + _NEAR)]
        above = [i for i, ratio in enumerate(ratios) if ratio >= point * (1 - _NEAR)]
        if below:
            chosen.add(max(below, key=lambda i: (ratios[i], -i)))
        if above:
            chosen.add(min(above, key=lambda i: (ratios[i], i)))
    return sorted(chosen)


def interpolate(curve: Sequence[tuple[float, float]], point: float) -> AtPoint:
    """The loss of a curve at a speed-up, between its two nearest measured settings, linear in the log of the speed-up.

    curve   (speed-up, loss) of each setting of one method; of several settings at one speed-up the best counts

    A point within half a percent of an end of the curve takes that end's loss; beyond, the loss is None.
    """
    best: dict[float, float] = {}
    for ratio, loss in curve:
        best[ratio] = min(loss, best.get(ratio, math.inf))
    ratios = sorted(best)
    if not ratios:
        return AtPoint(point, None, 0.0)
    reach = ratios[-1]
    for end in (ratios[0], reach):
        if math.isclose(end, point, rel_tol=_NEAR):
            return AtPoint(point, best[end], reach)
    for low, high in pairwise(ratios):
        if low <= point <= high:
            share = math.log(point / low) / math.log(high / low)
            return AtPoint(point, best[low] + share * (best[high] - best[low]), reach)
    return AtPoint(point, None, reach)


def undominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the (speed-up, loss) pairs that none beats in both: the frontier, by rising speed-up."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], points[i][1]))
    kept, least = [], math.inf
    for i in order:
        if points[i][1] < least:
            kept.append(i)
            least = points[i][1]
    return kept[::-1]
