"""From scores to tokens."""

from __future__ import annotations

import torch


def select_top(score: torch.Tensor, count: int, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """(B, count) int64: the tokens with the highest scores, best first.

    `score` (B, N) floating, 0 ≤ count ≤ N. Among equal scores the lower index comes first, on every device: topk does
    not promise that, a stable sort does. NaN counts as the lowest score, like −∞.
    `mask` (B, N) bool is False where a token must not be chosen (padded text). Such tokens come after all others, so
    they are reached only where a row has fewer than `count` allowed ones, in the order of their indices.
    """
    if count == 0:
        return torch.empty(score.shape[0], 0, dtype=torch.int64, device=score.device)
    lowest = torch.finfo(score.dtype).min
    score = torch.nan_to_num(score, nan=lowest, posinf=torch.inf, neginf=lowest)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)  # below `lowest`
    return torch.argsort(score, dim=1, descending=True, stable=True)[:, :count]  # (B, N) -> (B, count)
