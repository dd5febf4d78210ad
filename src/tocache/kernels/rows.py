"""Taking some tokens out of a feature and putting them back.

Both copy whole rows. `torch.gather` and `torch.scatter_`, whose index is as wide as the feature, look up every
number by itself, which on a CPU is several times slower and much more than that in bfloat16.
"""

from __future__ import annotations

import torch


def gather_rows(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The tokens `index` (B, k) int64 of `x` (B, N, …): (B, k, …), in the order of `index`."""
    batch, tokens = x.shape[:2]
    if batch > 1 and x.stride(0) != tokens * x.stride(1):  # flattening such a view would copy all of it
        return x[_batch(index), index]
    flat = index + tokens * _batch(index)  # (B, k) token of its row -> token of the batch
    rows = x.flatten(0, 1).index_select(0, flat.flatten())  # (B·N, …) -> (B·k, …)
    return rows.view(*index.shape, *x.shape[2:])  # (B·k, …) -> (B, k, …)


def scatter_rows(into: torch.Tensor, rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Writes `rows` (B, k, …) over the tokens `index` (B, k) int64 of `into` (B, N, …), in place; returns `into`.

    The tokens of one row of `index` must differ: which of two equal ones stays is not defined.
    """
    into[_batch(index), index] = rows
    return into


def _batch(index: torch.Tensor) -> torch.Tensor:
    """(B, 1): the number of each row."""
    return torch.arange(index.shape[0], device=index.device).unsqueeze(1)
