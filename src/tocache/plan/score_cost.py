"""What it costs to read off attention maps which tokens matter; the published tables do not count it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocache.plan.anatomy import SELF_ATTENTION, Site
from tocache.plan.memory import KEEP_MAP, Lifetimes, lifetimes
from tocache.plan.plan import ALL, Plan


def scores_by_site(plan: Plan, kept: Lifetimes | None = None) -> NDArray[np.int64]:
    """(steps, passes, sites) FLOPs of scoring by attention maps, which the published tables do not count.

    `kept` are other lifetimes than the plan's own, where a run had such.
    """
    costs = np.array([[cost.scores for cost in anatomy.costs] for anatomy in plan.anatomies], dtype=np.int64)
    tokens = np.array([[anatomy.tokens(site) for site in plan.sites] for anatomy in plan.anatomies], dtype=np.int64)
    whole = queries_read(plan)[None]
    looked = np.where(plan.amounts == ALL, whole, np.maximum(plan.amounts, 0))  # tokens whose row is read
    by_token = [bool(site.pairs) for site in plan.sites]  # column sums of some rows say nothing: they are not read
    looked[:, :, by_token] = np.where(plan.amounts == ALL, whole, 0)[:, :, by_token]
    maps = ((lifetimes(plan) if kept is None else kept).keep & KEEP_MAP) > 0
    return np.asarray(maps * looked * costs[None] // np.maximum(tokens[None], 1))  # a site that a pass skips has none


def flops_scores(plan: Plan, kept: Lifetimes | None = None) -> int:
    """FLOPs of the whole run's scoring by attention maps, or by as many of their rows as the policy says.

    `kept` is as in `scores_by_site`.
    """
    return int(scores_by_site(plan, kept).sum())


def queries_read(plan: Plan) -> NDArray[np.int64]:
    """(passes, sites) tokens whose rows of an attention map are read where the site computes all.

    Of a self-attention's as many as the policy samples; none where its scores are norms of keys or values, which read
    no map. An entropy is of a token's own row: all are read.
    """
    summed = "influence" in plan.policy.self_scores

    def count(site: Site, tokens: int) -> int:
        if site.kind != SELF_ATTENTION:
            return tokens
        return plan.policy.queries_of(tokens) if summed else 0

    counts = [[count(site, anatomy.tokens(site)) for site in plan.sites] for anatomy in plan.anatomies]
    return np.array(counts, dtype=np.int64)
