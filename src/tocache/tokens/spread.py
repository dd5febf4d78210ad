"""The bonus that spreads fresh tokens over the image."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F


def spread_bonus(score: torch.Tensor, grid: Sequence[int], *, size: int, weight: float) -> torch.Tensor:
    """ToCa's s4: the best token of every cell of the grid gets its score times 1 + weight.

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
    factor.scatter_(1, winner.flatten(1), 1 + weight)
    return score * factor.view_as(score)
