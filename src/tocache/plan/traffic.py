"""Bytes that a plan moves between memory and processor: weights, activations, what is cached.

Each number is counted once by each module that reads or writes it: a linear layer reads its input and writes its
output, an attention reads queries, keys and values and writes its output, activations and norms are part of what
follows them. Nothing is taken to stay in the processor from one module to the next, and no time to start anything is
counted. Copies to and from the host's memory are not in it, only what they move on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tocache.plan.anatomy import PARALLEL
from tocache.plan.cost import everything
from tocache.plan.memory import AGE_BYTES, KEEP_MAP, SCORE_BYTES, lifetimes, stored_bytes
from tocache.plan.plan import ALL, SKIPPED, Plan, Table
from tocache.plan.score_cost import queries_read

Bytes = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """Bytes of a run, read and written together.

    weights      (steps, passes, sites) of the parameters of sites that compute anything
    activations  (steps, passes, sites)
    cache        (steps, passes, sites) of features, of keys and values, and of what tokens are ranked by
    outside      (steps, passes) of the parameters of no site, in every pass that runs
    """

    weights: Bytes
    activations: Bytes
    cache: Bytes
    outside: Bytes

    @property
    def by_site(self) -> Bytes:
        """(steps, passes, sites) all that the sites move."""
        return self.weights + self.activations + self.cache


def traffic(plan: Plan, *, scores: bool = True, ahead: bool = False) -> Traffic:
    """What running `plan` moves.

    `scores` counts a second look at the attentions that tokens are ranked by; `ahead` leaves out what can be read once
    for all steps of a run.
    """
    moved = _computing(plan, plan.amounts, ahead)
    assert plan.source is not None
    outside = np.where(plan.source >= 0, 0, moved.outside)
    return Traffic(moved.weights, moved.activations + _blending(plan, scores), _caching(plan), outside)


def traffic_uncached(plan: Plan, *, ahead: bool = False) -> Traffic:
    """What the same run moves without a cache; `ahead` as in `traffic`."""
    return _computing(plan, everything(plan), ahead)


def _computing(plan: Plan, amounts: Table, ahead: bool) -> Traffic:
    """What the modules of the sites move, and the blocks that add what they give to the stream."""
    size, tokens, token = _sizes(plan)
    weights, moved, shared = (
        size[:, None] * np.array([[getattr(cost, part) for cost in anatomy.costs] for anatomy in plan.anatomies])
        for part in ("weights", "moved", "shared")
    )
    fresh = _fresh(amounts, tokens)
    computes = fresh > 0
    added = ~_inside_parallel(plan) & (amounts != SKIPPED)
    activations = fresh * moved + computes * shared
    activations += fresh * 2 * token  # the norm before the site, or the gathering of its tokens
    activations += added * tokens * 2 * token  # the stream that its output is added to, read and written
    activations += (added & (amounts == ALL)) * tokens * token  # the output; one that is served is the cache's
    outside = size * np.array([anatomy.outside - ahead * anatomy.ahead for anatomy in plan.anatomies])
    nothing = np.zeros_like(activations)
    return Traffic(computes * weights, activations, nothing, np.broadcast_to(outside, amounts.shape[:2]))


def _blending(plan: Plan, scores: bool) -> Bytes:
    """What fresh tokens and stale ones move on their way into one output, besides what is read of the cache."""
    _, tokens, token = _sizes(plan)
    amounts, whole = plan.amounts, tokens * token
    blended: Bytes = np.asarray(np.maximum(amounts, 0) * token)  # fresh rows are read, to be put among the others
    if not _as_it_is(plan):  # a forecast, or what was kept in 8 bits, is written first, then read by the block
        blended = np.asarray(blended + (amounts >= 0) * 2 * whole + np.maximum(amounts, 0) * token)
    if plan.policy.storage != "same":  # an output is read once more to be packed
        blended = blended + _kept(plan) * whole
    if scores:  # queries and keys are read again to score by their map
        looked = (lifetimes(plan).keep & KEEP_MAP) > 0
        queries = queries_read(plan)
        gathered = (queries < tokens) * 2 * queries  # a sample is read and written before it is read as one
        blended = blended + (looked & (amounts == ALL)) * (tokens + queries + gathered) * token
    return np.asarray(blended)


def _caching(plan: Plan) -> Bytes:
    """What goes to the cache and comes from it."""
    size, tokens, _ = _sizes(plan)
    rows, amounts = _rows(plan)[:, None], plan.amounts
    stored = np.array([[stored_bytes(plan, p, i) for i in range(len(plan.sites))] for p in range(plan.passes)])
    held = np.roll(lifetimes(plan).features, 1, axis=0).astype(np.int64)  # of the step before: what this one can read
    held[0] = 0
    read: Bytes = np.asarray((amounts >= 0) * held * stored)
    if _as_it_is(plan):
        for i, site in enumerate(plan.sites):  # the attention beside fresh tokens is read for those alone
            if site.kind == PARALLEL:
                at = plan.anatomies[0].index[site.inside[0]]
                read[:, :, at] = read[:, :, at] * np.maximum(amounts[:, :, i], 0) // tokens[:, i]
    written = np.maximum(amounts, 0) * (stored // np.maximum(tokens, 1)) * (plan.policy.stale == "reuse")
    if plan.policy.storage != "same":
        written = written + _kept(plan) * stored
    if plan.policy.offload:  # what is sent is read once more, what is fetched is written
        read = read * 2 + _kept(plan) * stored
    pairs = size[:, None] * rows * tokens * np.array([site.pairs for site in plan.sites])
    ranked = len(plan.policy.scores) * SCORE_BYTES + bool(plan.policy.staleness) * AGE_BYTES
    maps = ((lifetimes(plan).keep & KEEP_MAP) > 0) & (amounts == ALL)
    noted = (plan.choices > 0) * ranked * rows * tokens + maps * SCORE_BYTES * rows * tokens
    return np.asarray(read + written + (amounts > 0) * pairs + noted)


def _sizes(plan: Plan) -> tuple[Bytes, Bytes, Bytes]:
    """By pass the bytes of a number; by pass and site its tokens, and the bytes of one token in all rows."""
    size = np.array([anatomy.shape.itemsize for anatomy in plan.anatomies], dtype=np.int64)
    tokens = np.array([[anatomy.tokens(site) for site in plan.sites] for anatomy in plan.anatomies], dtype=np.int64)
    width = np.array([site.width for site in plan.sites], dtype=np.int64)
    return size, tokens, (size * _rows(plan))[:, None] * width


def _rows(plan: Plan) -> Bytes:
    return np.array([anatomy.shape.rows for anatomy in plan.anatomies], dtype=np.int64)


def _fresh(amounts: Table, tokens: Bytes) -> Bytes:
    return np.where(amounts == ALL, tokens, np.maximum(amounts, 0)).astype(np.int64)


def _kept(plan: Plan) -> NDArray[np.bool_]:
    """Where an output is computed whole and read by a later step."""
    return np.asarray((plan.amounts == ALL) & (lifetimes(plan).features > 0))


def _as_it_is(plan: Plan) -> bool:
    """Whether what is served is the kept tensor itself."""
    return plan.policy.storage == "same" and plan.policy.history == 1 and not plan.policy.offload


def _inside_parallel(plan: Plan) -> NDArray[Any]:
    """(sites,) which are an attention that its block adds to nothing: the block's other site goes on with it."""
    inside = {name for site in plan.sites if site.kind == PARALLEL for name in site.inside}
    return np.array([site.name in inside for site in plan.sites])
