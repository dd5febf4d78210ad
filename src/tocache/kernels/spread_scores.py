"""What turns base scores into the scores that tokens are chosen by: how long they are stale, and the bonus of a cell.

The choice itself stays with torch (`select_top`): among equal scores the lower index must come first on every device,
which takes a stable sort of whole rows, and there is none in Triton that would be better than torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Protocol

import torch
import torch.nn.functional as F

from tocache.kernels.backends import Backends


class SpreadScores(Protocol):
    """What a backend implements: `spread_scores` with every default filled in."""

    def __call__(
        self,
        score: torch.Tensor,
        age: torch.Tensor | int,
        grid: Sequence[int],
        *,
        staleness: float,
        interval: int,
        size: int,
        bonus: float,
        before: int,
    ) -> torch.Tensor: ...


@torch.no_grad()
def spread_scores(
    score: torch.Tensor,
    age: torch.Tensor | int,
    grid: Sequence[int],
    *,
    staleness: float,
    interval: int,
    size: int,
    bonus: float,
    before: int = 0,
    backend: str = "auto",
) -> torch.Tensor:
    """(B, N) float32, a new tensor: ToCa's s3 added to `score`, then s4 given to the best token of every cell.

        aged = score + staleness · age / interval
        out[b, n] = aged[b, n] · (1 + bonus) where n is the first of the best in its cell, else aged[b, n]

    `score` (B, N) float32; `age` (B, N) int, or one number for all. The tokens from `before` on lie row-major on
    `grid`, (H, W) or per frame on (T, H, W); those before them and behind them belong to no cell. Cells are `size` ×
    `size` tokens, smaller at the right and lower edge. Raises UnknownNameError for an unknown `backend`.
    """
    options = {"staleness": staleness, "interval": interval, "size": size, "bonus": bonus, "before": before}
    return SPREAD_SCORES.of(backend, score)(score, age, grid, **options)  # type: ignore[arg-type]


def spread_scores_torch(
    score: torch.Tensor,
    age: torch.Tensor | int,
    grid: Sequence[int],
    *,
    staleness: float,
    interval: int,
    size: int,
    bonus: float,
    before: int,
) -> torch.Tensor:
    """The reference: `spread_scores` in plain torch."""
    age = age.float() if isinstance(age, torch.Tensor) else age
    aged, after = score + staleness * age / interval, before + prod(grid)
    return torch.cat([aged[:, :before], cell_bonus(aged[:, before:after], grid, size, bonus), aged[:, after:]], dim=1)


def cell_bonus(score: torch.Tensor, grid: Sequence[int], size: int, bonus: float) -> torch.Tensor:
    """ToCa's s4: the best token of every cell of the grid gets its score times 1 + `bonus`.

    `score` (B, N) floating; N tokens lie row-major on `grid`, (H, W) or per frame on (T, H, W). Cells are
    `size` × `size` tokens; those at the right and lower edge are smaller where `size` does not divide the grid.
    Among equal scores the first of the cell wins, row-major. A negative score is multiplied too, and falls, as
    published. Returns a new tensor like `score`. A `grid` that does not hold N tokens raises RuntimeError.
    """
    height, width = grid[-2:]
    frames = score.reshape(score.shape[0] * prod(grid[:-2]), height, width)  # (B, N) -> (B·T, H, W)
    # max_pool2d pads with −∞ by itself (ceil_mode) and takes the first of equal maxima
    _, winner = F.max_pool2d(frames, size, stride=size, ceil_mode=True, return_indices=True)
    factor = torch.ones_like(frames).flatten(1)  # (B·T, H, W) -> (B·T, H·W)
    factor.scatter_(1, winner.flatten(1), 1 + bonus)
    return score * factor.view_as(score)


@cache
def _triton() -> SpreadScores:
    from tocache.kernels.spread_scores_triton import spread_scores_triton

    return spread_scores_triton


SPREAD_SCORES: Backends[SpreadScores] = Backends(spread_scores_torch, _triton)
