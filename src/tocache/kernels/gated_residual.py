"""What a sub-layer gives to the stream: its feature, with the fresh tokens put into it, gated and added."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch

from tocache.kernels.backends import Backends
from tocache.kernels.rows import scatter_rows


class GatedResidual(Protocol):
    """What a backend implements."""

    def __call__(
        self,
        residual: torch.Tensor,
        gate: torch.Tensor | None,
        feature: torch.Tensor,
        rows: torch.Tensor | None,
        index: torch.Tensor | None,
    ) -> torch.Tensor: ...


@torch.no_grad()
def gated_residual(
    residual: torch.Tensor,
    gate: torch.Tensor | None,
    feature: torch.Tensor,
    rows: torch.Tensor | None = None,
    index: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """(B, N, C) residual + gate · feature, a new tensor, after `rows` were written over tokens of `feature`, in place.

        feature[b, index[b, j]] = rows[b, j];   out[b, n] = residual[b, n] + gate[b] · feature[b, n]

    `residual` and `feature` (B, N, C) of one dtype; `gate` (B, 1, C), None for 1; `rows` (B, k, C) are the tokens
    `index` (B, k) int64, which differ within a row; None where nothing is fresh. The reference rounds after each
    operation, as a block in torch does, the Triton kernel once. Raises UnknownNameError for an unknown `backend`.
    """
    return GATED_RESIDUAL.of(backend, residual)(residual, gate, feature, rows, index)


def gated_residual_torch(
    residual: torch.Tensor,
    gate: torch.Tensor | None,
    feature: torch.Tensor,
    rows: torch.Tensor | None,
    index: torch.Tensor | None,
) -> torch.Tensor:
    """The reference: `gated_residual` in plain torch."""
    if rows is not None and index is not None:
        scatter_rows(feature, rows, index)
    return residual + (feature if gate is None else gate * feature)


@cache
def _triton() -> GatedResidual:
    from tocache.kernels.gated_residual_triton import gated_residual_triton

    return gated_residual_triton


GATED_RESIDUAL: Backends[GatedResidual] = Backends(gated_residual_torch, _triton)
