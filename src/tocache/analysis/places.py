"""Where a study looks where it cannot look everywhere: some steps, sites and tokens, at even distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError
from tocache.plan import Anatomy
from tocache.plan.anatomy import MLP, PARALLEL, Site

Indices = NDArray[np.int64]


def spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 … count − 1, at even distances from each other and half of one from the ends."""
    if count <= most:
        return list(range(count))
    return sorted({int((k + 0.5) * count / most) for k in range(most)})


@dataclass(frozen=True)
class Lattice:
    """Some of the image's tokens: all in every few rows and columns of the grid, where there is one.

    index  (tokens,) which, ascending, counted among the image's tokens
    shape  how they lie: (height, width) or (frames, height, width); (tokens,) where the image is no grid
    """

    index: Indices
    shape: tuple[int, ...]


def lattice(tokens: int, grid: Sequence[int] | None, most: int) -> Lattice:
    """At most `most` of the image's `tokens`, as evenly over the grid as can be."""
    sides = (tokens,) if grid is None else tuple(grid)
    counts = [1] * len(sides)
    while True:  # one more along the axis where those that there are lie farthest apart
        wishes = sorted(range(len(sides)), key=lambda axis: -sides[axis] / counts[axis])
        grown = False
        for axis in wishes:
            more = [count + (other == axis) for other, count in enumerate(counts)]
            if more[axis] <= sides[axis] and np.prod(more) <= most:
                counts, grown = more, True
                break
        if not grown:
            break
    lines = [spaced(side, count) for side, count in zip(sides, counts, strict=True)]
    index = np.ravel_multi_index(np.meshgrid(*lines, indexing="ij"), sides).ravel()
    return Lattice(index.astype(np.int64), tuple(counts))


def text_before(anatomy: Anatomy, site: Site) -> int:
    """How many tokens of `site` stand before those of the image: the text's in a joint stream."""
    return anatomy.before_image(site) or 0


def sites_of(anatomy: Anatomy, kinds: Sequence[str] | None = None) -> list[int]:
    """The sites of these kinds that the image's tokens pass; None: the MLPs, and the blocks that have one inside.

    Raises OptionError where the model has none, naming the kinds that it has.
    """
    wanted = (MLP, PARALLEL) if kinds is None else tuple(kinds)
    passed = {i: site for i, site in enumerate(anatomy.sites) if anatomy.before_image(site) is not None}
    inside = {name for site in passed.values() if site.kind == PARALLEL for name in site.inside}
    found = [i for i, site in passed.items() if site.kind in wanted and site.name not in inside]
    known = {site.kind for site in passed.values() if site.name not in inside}
    missing = [kind for kind in wanted if kind not in known] if kinds is not None else []
    if missing or not found:
        name = missing[0] if missing else "mlp"
        raise OptionError(f"kind={name!r} is not allowed; {anatomy.model} has: {', '.join(sorted(known))}")
    return found
