"""Puts the scores of a policy together and picks the tokens: the only place where a choice is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from tocache.features import PassCache
from tocache.kernels import spread_scores
from tocache.plan.plan import Plan
from tocache.plan.policy import CROSS_MAP_SCORES, SELF_MAP_SCORES
from tocache.tokens import (
    add_staleness,
    merge_halves,
    multiply_staleness,
    score_drift,
    score_entropy,
    score_influence,
    score_norm,
    score_similarity,
    select_from_clusters,
    select_top,
)

Draw = Callable[[int, torch.device], torch.Tensor]
"""Random scores (1, tokens) for so many tokens, on a device."""


def choose(
    plan: Plan,
    number: int,
    i: int,
    home: int,
    cache: PassCache,
    x: torch.Tensor,
    count: int,
    step: int,
    draw: Draw,
    clusters: torch.Tensor | None = None,
    present: torch.Tensor | None = None,
) -> torch.Tensor:
    """(rows, count) int64 tokens that site `i` of pass `number` computes, best first (ToCa §3.3).

    `x` is the site's input (rows, tokens, width); `home` is the last site of the scope that shares this choice. Of
    `clusters` (rows, tokens) the best token of each comes first. Those that are not `present` (rows, tokens) come last.
    """
    policy, shape = plan.policy, plan.anatomies[number].shape
    rows, tokens = x.shape[0], x.shape[1]
    together = policy.together and shape.halves is not None
    is_sum = policy.combine == "sum"
    if present is not None and together:  # both halves choose alike, among the tokens that both have
        present = present.reshape(2, -1, tokens).all(dim=0).repeat(2, 1)
    score = torch.full((rows, tokens), 0.0 if is_sum else 1.0, dtype=torch.float32, device=x.device)
    for name, weight in policy.scores.items():
        base = _base_score(name, plan, number, i, home, cache, x, together, draw)
        if present is not None:  # of length 1 over the tokens that there are
            base = F.normalize(base.masked_fill(~present, 0.0), dim=1)
        score = score + weight * base if is_sum else score * base**weight
    age: torch.Tensor | int = 0
    if policy.staleness:
        ages = cache.fresh_at[home]
        # a choice at step t counts the steps before it: a token that was fresh at t − 1 has age 0
        age = step - 1 - (cache.full_at[home] if ages is None else ages)
    if policy.staleness and not is_sum:
        score = multiply_staleness(score, age, weight=policy.staleness, interval=policy.interval)
    added = policy.staleness if is_sum else 0.0
    before = plan.anatomies[number].before_image(plan.sites[i]) if policy.spread and shape.grid is not None else None
    if before is not None and shape.grid is not None:  # s3 and s4 in one
        size, bonus = policy.spread_size, policy.spread
        options: dict[str, Any] = {"interval": policy.interval, "size": size, "bonus": bonus, "before": before}
        score = spread_scores(score, age, shape.grid, staleness=added, **options)
    elif added:
        score = add_staleness(score, age, weight=added, interval=policy.interval)
    if present is not None:
        score = score.masked_fill(~present, -torch.inf)
    return select_top(score, count) if clusters is None else select_from_clusters(score, clusters, count)


def _base_score(
    name: str,
    plan: Plan,
    number: int,
    i: int,
    home: int,
    cache: PassCache,
    x: torch.Tensor,
    together: bool,
    draw: Draw,
) -> torch.Tensor:
    """(rows, tokens) float32 one base score; equal in both halves of the batch where they choose together."""
    site, index = plan.sites[i], plan.anatomies[number].index
    if name in SELF_MAP_SCORES or name in CROSS_MAP_SCORES:
        at = site.self_map if name in SELF_MAP_SCORES else site.cross_map
        assert at is not None  # the plan was validated
        seen = cache.maps[index[at]][name]
        if together:
            # entropies were taken of half the map each, so they add up; see `read_cross_attention`
            seen = merge_halves(seen, how="sum" if name == "entropy" else "mean")
        return score_entropy(seen) if name == "entropy" else score_influence(seen)
    if name == "random":
        # one draw: for both halves, as published, and for all pictures, so that none depends on its place in the batch
        return draw(x.shape[1], x.device).expand(x.shape[0], -1)
    if name == "drift":
        drift = cache.drift[home]  # after the first full step there is none yet: all tokens count the same
        score = score_drift(torch.ones(x.shape[:2], dtype=torch.float32, device=x.device) if drift is None else drift)
    elif name == "norm":
        score = score_norm(x)
    else:
        score = score_similarity(x, cache.newest(i))
    return merge_halves(score, how="mean") if together else score
