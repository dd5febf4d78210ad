"""What a plan costs in FLOPs (2 × multiply-accumulate), by the conventions of the published tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tocache.plan.anatomy import REGION, Anatomy
from tocache.plan.plan import ALL, SKIPPED, Plan, Table


def flops_by_site(anatomies: Sequence[Anatomy], amounts: Table) -> NDArray[np.int64]:
    """(steps, passes, sites) FLOPs of running `amounts`, a table of the same shape (see `Plan.amounts`)."""
    costs = [anatomy.costs for anatomy in anatomies]
    full, token, always = (
        np.array([[getattr(cost, part) for cost in row] for row in costs], dtype=np.int64)
        for part in ("full", "token", "always")
    )
    table = amounts.astype(np.int64)
    computed = np.where(table == ALL, full[None], np.maximum(table, 0) * token[None])
    return np.where(table == SKIPPED, 0, always[None] + computed)


def flops_planned(plan: Plan) -> int:
    """FLOPs of the whole run as planned, scores not included (see `flops_scores`)."""
    return int(flops_by_site(plan.anatomies, plan.amounts).sum())


def flops_uncached(plan: Plan) -> int:
    """FLOPs of the whole run without a cache."""
    return int(flops_by_site(plan.anatomies, everything(plan)).sum())


def everything(plan: Plan) -> Table:
    """The amounts of the same run without a cache."""
    table = np.full_like(plan.fresh, ALL)
    for i, site in enumerate(plan.sites):
        if site.kind == REGION:  # a region computes nothing of its own
            table[:, :, i] = SKIPPED
    return table
