"""Pictures of one size put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.sets.pictures import Pixels


def batched(pictures: Iterable[Pixels], size: int) -> Iterator[Tensor]:
    """(B, 3, H, W) float32 in [0, 1], B at most `size`, in order; a picture of another size begins a new batch."""
    for group in _groups(((picture,) for picture in pictures), size):
        yield _stacked([picture for (picture,) in group])


def batched_pairs(
    pictures: Iterable[Pixels], others: Iterable[Pixels], names: Iterable[str], size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same of pairs. Raises OptionError where the two of a pair differ in size, and names the picture."""
    for group in _groups(_checked(pictures, others, names), size):
        yield _stacked([one for one, _ in group]), _stacked([other for _, other in group])


def _checked(
    pictures: Iterable[Pixels], others: Iterable[Pixels], names: Iterable[str]
) -> Iterator[tuple[Pixels, ...]]:
    for one, other, name in zip(pictures, others, names, strict=True):
        if one.shape != other.shape:
            sizes = [f"{x.shape[1]} × {x.shape[0]}" for x in (one, other)]
            raise OptionError(f"{name}: {sizes[0]} pixels cannot be compared with {sizes[1]}")
        yield one, other


def _groups(rows: Iterable[tuple[Pixels, ...]], size: int) -> Iterator[list[tuple[Pixels, ...]]]:
    if size < 1:
        raise OptionError(f"batch={size!r} is not allowed; allowed: an integer >= 1")
    group: list[tuple[Pixels, ...]] = []
    for row in rows:
        if group and (len(group) == size or row[0].shape != group[0][0].shape):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _stacked(pictures: list[Pixels]) -> Tensor:
    """(H, W, 3) uint8 each → (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 255
