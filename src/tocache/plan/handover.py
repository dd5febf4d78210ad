"""What is kept where another transformer takes a run over, for which nothing that is cached is valid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocache.plan.memory import Lifetimes, lifetimes
from tocache.plan.plan import Plan


def handed_over(before: Lifetimes, plan: Plan, step: int, first: int) -> Lifetimes:
    """The lifetimes in a run of which the passes from `first` on are taken over in `step`, which nobody foresaw.

    `before` are those that the run had until then: what it kept for later steps was held until each of these passes
    began. From there on the rest of `plan`, all of it computed in `step`, is a plan of its own.
    """
    rest = lifetimes(plan.full_at(step).since(step))
    features, keep = before.features.copy(), before.keep.copy()
    features[step:, first:], keep[step:, first:] = rest.features[:, first:], rest.keep[:, first:]

    def joined(old: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.int64]:
        both, sites = old.copy(), len(plan.sites)
        for p in range(first, plan.passes):
            begun = (step * plan.passes + p) * sites
            both[p, begun:] = new[p, p * sites :]
        return both

    return Lifetimes(features, keep, joined(before.held, rest.held), joined(before.held_device, rest.held_device))
