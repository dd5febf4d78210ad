"""What a block does right before and right after a sub-layer, noted while it does it, and done in one kernel.

Norm, modulation, gate and residual are in a block's own code, in no module of their own. So the norm is handed chosen
tokens that are not gathered yet, and the block is handed a feature that its fresh tokens are not put into yet. Both are
no tensors; whatever is done to them that a kernel does not do makes them one at once, as if nothing had been noted.
They come into being only where a Triton kernel would be taken, so that torch computes as it ever did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tocache.kernels import GATED_RESIDUAL, MODULATED_ROWS, gated_residual, gather_rows, modulated_rows, scatter_rows

_MUL = (torch.Tensor.mul, torch.Tensor.__mul__, torch.mul)
_ADD = (torch.Tensor.add, torch.Tensor.__add__, torch.add)


class Deferred(ABC):
    """A tensor to be: `tensor` is what it becomes when nothing more can be noted."""

    made: torch.Tensor | None = None

    @abstractmethod
    def _make(self) -> torch.Tensor: ...

    def _times(self, other: Any) -> Any:
        """This times `other`: noted, or None."""
        return None

    def _plus(self, other: Any) -> Any:
        """This plus `other`, or None where no kernel can do it."""
        return None

    @property
    def tensor(self) -> torch.Tensor:
        if self.made is None:
            self.made = self._make()
        return self.made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if len(args) == 2 and not kwargs:
            one, other = args if isinstance(args[0], Deferred) else args[::-1]
            if func in _MUL and (noted := one._times(other)) is not None:
                return noted
            if func in _ADD and (noted := one._plus(other)) is not None:
                return noted
        if func is F.layer_norm and isinstance(args[0], ChosenRows):
            noted = args[0].normed(*args[1:], **kwargs)
            if noted is not None:
                return noted
        return func(*(settled(arg) for arg in args), **{name: settled(value) for name, value in kwargs.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor, name)

    def __mul__(self, other: Any) -> Any:
        noted = self._times(other)
        return self.tensor * other if noted is None else noted

    def __add__(self, other: Any) -> Any:
        noted = self._plus(other)
        return self.tensor + other if noted is None else noted

    __rmul__, __radd__ = __mul__, __add__

    def __sub__(self, other: Any) -> Any:
        return self.tensor - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.tensor

    def __truediv__(self, other: Any) -> Any:
        return self.tensor / other

    def __neg__(self) -> torch.Tensor:
        return -self.tensor

    def __getitem__(self, key: Any) -> torch.Tensor:
        return self.tensor[key]

    def __len__(self) -> int:
        return len(self.tensor)


class ChosenRows(Deferred):
    """The tokens `index` (B, k) of `x` (B, N, C): normalised, then scaled, then shifted, as far as a block has come."""

    def __init__(
        self, x: torch.Tensor, index: torch.Tensor, eps: float | None = None, factor: torch.Tensor | None = None
    ) -> None:
        self.x, self.index, self.eps, self.factor = x, index, eps, factor

    def normed(
        self, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> ChosenRows | None:
        plain = weight is None and bias is None and self.eps is None and tuple(shape) == self.x.shape[2:]
        return ChosenRows(self.x, self.index, eps) if plain else None

    def _times(self, other: Any) -> ChosenRows | None:
        if self.eps is None or self.factor is not None or not _of_rows(other, self.x):
            return None
        return ChosenRows(self.x, self.index, self.eps, other)

    def _plus(self, other: Any) -> torch.Tensor | None:
        if self.eps is None or self.factor is None or not _of_rows(other, self.x):
            return None
        return modulated_rows(self.x, self.index, self.factor, other, eps=self.eps)

    def _make(self) -> torch.Tensor:
        rows = gather_rows(self.x, self.index)
        if self.eps is not None:
            rows = F.layer_norm(rows, rows.shape[-1:], eps=self.eps)
        return rows if self.factor is None else rows * self.factor


class Given(Deferred):
    """What a site gives: its `feature` (B, N, C), with `rows` to be put over its tokens `index`.

    The feature may be the cache's own: `tensor` puts the rows into it.
    """

    def __init__(
        self, feature: torch.Tensor, rows: torch.Tensor | None = None, index: torch.Tensor | None = None
    ) -> None:
        self.feature, self.rows, self.index = feature, rows, index

    def _times(self, other: Any) -> Gated | None:
        return Gated(self, other) if self.made is None and _of_rows(other, self.feature) else None

    def _plus(self, other: Any) -> torch.Tensor | None:
        return self.added(other, None) if self.made is None else None

    def added(self, residual: Any, gate: torch.Tensor | None) -> torch.Tensor | None:
        """residual + gate · this, in one kernel; None where that is not what the kernel does."""
        like = self.feature
        if not (isinstance(residual, torch.Tensor) and residual.shape == like.shape and residual.dtype == like.dtype):
            return None
        out = gated_residual(residual, gate, like, self.rows, self.index)
        self.made = like  # its rows are in their places now
        return out

    def _make(self) -> torch.Tensor:
        if self.rows is None or self.index is None:
            return self.feature
        return scatter_rows(self.feature, self.rows, self.index)


class Gated(Deferred):
    """What a site gives times a gate (B, 1, C)."""

    def __init__(self, given: Given, gate: torch.Tensor) -> None:
        self.given, self.gate = given, gate

    def _plus(self, other: Any) -> torch.Tensor | None:
        return self.given.added(other, self.gate) if self.given.made is None and self.made is None else None

    def _make(self) -> torch.Tensor:
        return self.given.tensor * self.gate


def settled(value: Any) -> Any:
    """`value`, and what is in it, as tensors."""
    if isinstance(value, Deferred):
        return value.tensor
    if isinstance(value, list | tuple) and any(isinstance(each, Deferred) for each in value):
        return type(value)(map(settled, value))
    return value


def gathers(x: torch.Tensor) -> bool:
    """Whether choosing tokens of `x` is put off until they are modulated."""
    return _can(x) and MODULATED_ROWS.fuses(x)


def scatters(feature: torch.Tensor) -> bool:
    """Whether what a site gives is put off until it is added to the stream."""
    return _can(feature) and GATED_RESIDUAL.fuses(feature)


def _can(tensor: torch.Tensor) -> bool:
    """Not where autograd, autocast or a trace would have to see each operation."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled(tensor.device.type):
        return False
    return type(tensor) is torch.Tensor and tensor.dim() == 3


def _of_rows(value: Any, like: torch.Tensor) -> bool:
    """Whether `value` is one vector for each row of `like` (B, N, C), or for all of them, in its dtype."""
    if not isinstance(value, torch.Tensor) or value.dtype != like.dtype or value.dim() != 3:
        return False
    return value.shape[0] in (1, like.shape[0]) and value.shape[1:] == (1, like.shape[2])
