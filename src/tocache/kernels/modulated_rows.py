"""Some tokens of a stream, normalised and modulated: what a partial step gives to an MLP."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F

from tocache.kernels.backends import Backends
from tocache.kernels.rows import gather_rows


class ModulatedRows(Protocol):
    """What a backend implements."""

    def __call__(
        self, x: torch.Tensor, index: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor, *, eps: float
    ) -> torch.Tensor: ...


@torch.no_grad()
def modulated_rows(
    x: torch.Tensor,
    index: torch.Tensor,
    factor: torch.Tensor,
    shift: torch.Tensor,
    *,
    eps: float,
    backend: str = "auto",
) -> torch.Tensor:
    """(B, k, C) in the dtype of `x`: the tokens `index` (B, k) int64 of `x` (B, N, C), normalised and modulated.

        rows[b, j] = norm(x[b, index[b, j]]) · factor[b] + shift[b],   norm(v) = (v − mean v) / √(var v + eps)

    `factor` and `shift` (B, 1, C) are the same for all tokens of a row; adaLN's factor is 1 + scale. The reference
    rounds after each operation, as a block in torch does, the Triton kernel once. Raises UnknownNameError for an
    unknown `backend`.
    """
    return MODULATED_ROWS.of(backend, x)(x, index, factor, shift, eps=eps)


def modulated_rows_torch(
    x: torch.Tensor, index: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor, *, eps: float
) -> torch.Tensor:
    """The reference: `modulated_rows` in plain torch."""
    rows = gather_rows(x, index)  # (B, N, C) -> (B, k, C)
    return F.layer_norm(rows, rows.shape[-1:], eps=eps) * factor + shift


@cache
def _triton() -> ModulatedRows:
    from tocache.kernels.modulated_rows_triton import modulated_rows_triton

    return modulated_rows_triton


MODULATED_ROWS: Backends[ModulatedRows] = Backends(modulated_rows_torch, _triton)
