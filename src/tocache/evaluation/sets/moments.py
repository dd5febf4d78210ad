"""Mean and covariance of features that come block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from tocache.errors import OptionError

_ROWS = 512  # are put together before the product: half of it would take as long


class Moments:
    """Mean and unbiased covariance of rows that are added block by block, in float64.

    Each block is centred on its own mean before it is multiplied, and the blocks are merged pairwise (Chan, Golub and
    LeVeque 1979, equation 2.1): no sum of squares is ever subtracted from another, so a large mean costs no digits.

    width   D, the number of features

    Raises OptionError where a block has another width, or holds a number that is not finite.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._count = 0
        self._mean = torch.zeros(width, dtype=torch.float64)
        self._scatter = torch.zeros(width, width, dtype=torch.float64)  # sum of (x − mean)(x − mean)ᵀ
        self._waiting: list[Tensor] = []

    @property
    def count(self) -> int:
        """How many rows were added."""
        return self._count + sum(map(len, self._waiting))

    @property
    def mean(self) -> Tensor:
        """(D,)"""
        self._merge()
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """(D, D), divided by N − 1. Raises OptionError where fewer than two rows were added."""
        self._merge()
        if self._count < 2:
            raise OptionError(f"a covariance of {self._count} pictures; allowed: at least 2")
        return self._scatter / (self._count - 1)

    def add(self, rows: Tensor) -> None:
        """Adds `rows` (B, D) of any floating dtype, on any device."""
        if rows.dim() != 2 or rows.shape[1] != self.width:
            raise OptionError(f"features of shape {tuple(rows.shape)}; allowed: (pictures, {self.width})")
        if not torch.isfinite(rows).all():
            raise OptionError("features hold numbers that are not finite")
        self._waiting.append(rows.detach().to("cpu", copy=True))  # an extractor may use its memory again
        if sum(map(len, self._waiting)) >= _ROWS:
            self._merge()

    def _merge(self) -> None:
        if not self._waiting:
            return
        block = torch.cat(self._waiting).double()
        self._waiting = []
        mean = block.mean(dim=0)
        block -= mean
        before, total = self._count, self._count + len(block)
        apart = mean - self._mean
        self._scatter.addmm_(block.T, block)
        self._scatter.addr_(apart, apart, alpha=before * len(block) / total)
        self._mean += apart * (len(block) / total)
        self._count = total
