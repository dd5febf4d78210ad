"""The two attentions of an STDiT3 block: among the tokens of a frame or of a place, and over the caption."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tocache.opensora.embeddings import RotaryFrequencies

Axis = Literal["space", "time"]


class RMSNorm(nn.Module):
    """x / RMS(x) over the last dimension, in float32, times a learned weight in the dtype of `x`."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        full = x.float()
        full = full * torch.rsqrt(full.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * full.to(x.dtype)


class SelfAttention(nn.Module):
    """Attention of each token to those of its own frame (`space`) or of its own place in all frames (`time`)."""

    def __init__(self, width: int, heads: int, axis: Axis, *, qk_norm: bool) -> None:
        super().__init__()
        head = width // heads
        self.heads = heads
        self.axis = axis
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm: nn.Module = RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = RMSNorm(head) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: int, rope: RotaryFrequencies | None = None) -> Tensor:
        """`x` (B, frames · places, C), frame by frame; `rope` turns queries and keys after they are normalised."""
        x = torch.unflatten(x, 1, (frames, -1))  # (B, T, S, C)
        if self.axis == "time":
            x = x.transpose(1, 2)  # (B, S, T, C)
        groups = x.shape[:2]
        x = torch.unflatten(self._attend(x.flatten(0, 1), rope), 0, groups)
        if self.axis == "time":
            x = x.transpose(1, 2)  # (B, T, S, C)
        return x.flatten(1, 2)  # (B, N, C)

    def _attend(self, x: Tensor, rope: RotaryFrequencies | None) -> Tensor:
        q, k, v = torch.unflatten(self.qkv(x), -1, (3, self.heads, -1)).permute(
            2, 0, 3, 1, 4
        )  # (groups, heads, length, head)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rope(q), rope(k)
        y = F.scaled_dot_product_attention(q, k, v)
        mixed: Tensor = self.proj(y.transpose(1, 2).flatten(2))  # (groups, length, C)
        return mixed


class CrossAttention(nn.Module):
    """Attention of each token to the caption of its row of the batch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` (B, N, C), `text` (B, L, C), `mask` (B, 1, 1, L) with True where there is text, or None for everywhere.

        The original packs the captions of a batch into one sequence and lets each row see its own; a mask of padding
        says the same.
        """
        q = torch.unflatten(self.q_linear(x), -1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, head)
        k, v = torch.unflatten(self.kv_linear(text), -1, (2, self.heads, -1)).permute(
            2, 0, 3, 1, 4
        )  # (B, heads, L, head)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed: Tensor = self.proj(y.transpose(1, 2).flatten(2))  # (B, N, C)
        return mixed
