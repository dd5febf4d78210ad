"""An attention mask as a Triton kernel takes it: a tensor, how it is read, and how far its axes lie apart."""

from __future__ import annotations

import torch

MaskArguments = tuple[int, torch.Tensor, tuple[int, int, int, int]]
"""Kind (0: none, 1: bool, 2: added), tensor, strides of (B, H, M, N): 0 along axes that are broadcast."""


def mask_arguments(mask: torch.Tensor | None, shape: tuple[int, int, int, int], like: torch.Tensor) -> MaskArguments:
    """Of `mask`, which broadcasts to `shape` (B, H, M, N) and is never expanded in memory.

    Where there is none, `like` stands in its place and is not read.
    """
    if mask is None:
        return 0, like, (0, 0, 0, 0)
    expanded = mask.expand(shape)
    a, b, c, d = expanded.stride()
    if mask.dtype == torch.bool:
        return 1, mask.view(torch.uint8), (a, b, c, d)
    return 2, mask, (a, b, c, d)
