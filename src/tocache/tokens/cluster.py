"""Tokens in clusters: one of each is computed, and what it changed is passed on to the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cluster_tokens(x: torch.Tensor, count: int, *, generator: torch.Generator, iterations: int = 10) -> torch.Tensor:
    """(B, N) int32: the cluster of each token of `x` (B, N, C), by k-means with `count` clusters (Lloyd's).

    It begins with tokens drawn at random, the same places in every row. A cluster that has lost its tokens keeps its
    centre. All iterations are made: to ask whether a token still moved, the host would have to wait for the device.
    `generator` lives on the CPU, so that a seed means the same everywhere.
    """
    x = x.float()
    start = torch.randperm(x.shape[1], generator=generator)[:count].to(x.device, non_blocking=True)
    centres = x[:, start]  # (B, N, C) -> (B, K, C)
    labels = _nearest(x, centres)
    for _ in range(iterations):
        members = F.one_hot(labels, count).to(x.dtype)  # (B, N, K)
        sizes = members.sum(dim=1).unsqueeze(-1)  # (B, K, 1)
        means = members.transpose(1, 2) @ x / sizes.clamp_min(1)
        centres = torch.where(sizes > 0, means, centres)
        labels = _nearest(x, centres)
    return labels.int()


def select_from_clusters(score: torch.Tensor, clusters: torch.Tensor, count: int) -> torch.Tensor:
    """(B, count) int64: the token of each cluster with the highest score, best first; then the best of the others.

    `score` (B, N) floating; `clusters` (B, N) of at most N clusters. Among equal scores the lower index comes first.
    """
    tokens = score.shape[1]
    order = torch.argsort(torch.nan_to_num(score, nan=-torch.inf), dim=1, descending=True, stable=True)
    rank = torch.argsort(order, dim=1)  # (B, N): 0 for the token with the highest score
    labels = clusters.long()
    best = torch.full_like(rank, tokens).scatter_reduce(1, labels, rank, "amin")  # by cluster
    leads = rank == best.gather(1, labels)
    return torch.argsort(rank + tokens * ~leads, dim=1)[:, :count]


def pass_on(
    value: torch.Tensor, rows: torch.Tensor, index: torch.Tensor, clusters: torch.Tensor, share: float
) -> torch.Tensor:
    """`value` (B, N, C), each token moved by `share` of the way to the computed token of its cluster.

    `rows` (B, k, C) are the computed tokens `index` (B, k); tokens of a cluster of which none was computed stay as they
    are. Where two of a cluster were computed, the better one counts, which stands first. A new tensor.
    """
    labels, k = clusters.long(), index.shape[1]
    own = labels.gather(1, index)  # (B, k): the clusters of the computed tokens
    places = torch.arange(k, device=index.device).expand_as(own)
    first = torch.full_like(labels, k).scatter_reduce(1, own, places, "amin")  # by cluster: which row, k for none
    source = first.gather(1, labels).unsqueeze(-1)  # (B, N, 1)
    leader = rows.gather(1, source.clamp_max(k - 1).expand_as(value))
    return torch.where(source < k, value + share * (leader - value), value)


def _nearest(x: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    # |x − c|² without |x|², which is the same for all centres
    return (centres.square().sum(-1).unsqueeze(1) - 2 * x @ centres.transpose(1, 2)).argmin(-1)
