"""The bonus that spreads fresh tokens over the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tocache.kernels import cell_bonus


def spread_bonus(score: torch.Tensor, grid: Sequence[int], *, size: int, weight: float) -> torch.Tensor:
    """ToCa's s4: the best token of every cell of the grid gets its score times 1 + weight.

    `score` (B, N) floating; N tokens lie row-major on `grid`, (H, W) or per frame on (T, H, W). Cells are
    `size` × `size` tokens; those at the right and lower edge are smaller where `size` does not divide the grid.
    Among equal scores the first of the cell wins, row-major. A negative score is multiplied too, and falls, as
    published. Returns a new tensor like `score`. A `grid` that does not hold N tokens raises RuntimeError.
    """
    return cell_bonus(score, grid, size, weight)
