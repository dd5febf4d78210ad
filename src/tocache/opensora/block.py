"""One STDiT3 block: self-attention, attention to the caption, MLP; and the modulation around them.

`attn`, `cross_attn` and `mlp` are modules that take and give (B, N, C) and know nothing of gates, norms and frames
under a mask, so that each can be called, or left out, alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tocache.opensora.attention import Axis, CrossAttention, SelfAttention
from tocache.opensora.embeddings import RotaryFrequencies

EPS = 1e-6  # of every norm in the model


class Conditioning(NamedTuple):
    """What every block is told beside its tokens; width is the model's, rows are those of the batch.

    text         (B, L, width) the projected captions
    text_mask    (B, 1, 1, L) True where there is text, or None
    time         (B, 6 · width) from the timestep
    frames       how many frames the tokens make up
    time_zero    (B, 6 · width) from timestep 0, for the frames that are given, or None where all are generated
    frame_mask   (B, frames) True where a frame is generated, or None with `time_zero`
    """

    text: Tensor
    text_mask: Tensor | None
    time: Tensor
    frames: int
    time_zero: Tensor | None = None
    frame_mask: Tensor | None = None


class FeedForward(nn.Module):
    """The MLP of a block; it treats every token by itself."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return y


class STDiT3Block(nn.Module):
    """(B, N, C) → (B, N, C); `axis` says whether its self-attention runs within frames or through them."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, axis: Axis, *, qk_norm: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.attn = SelfAttention(width, heads, axis, qk_norm=qk_norm)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.mlp = FeedForward(width, int(width * mlp_ratio))
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, x: Tensor, given: Conditioning, rope: RotaryFrequencies | None = None) -> Tensor:
        """`rope` is for blocks whose axis is time."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(self.scale_shift_table, given)
        x = x + gated(self.attn(normed(self.norm1, x, shift1, scale1), given.frames, rope), gate1)
        x = x + self.cross_attn(x, given.text, given.text_mask)
        return x + gated(self.mlp(normed(self.norm2, x, shift2, scale2)), gate2)


def modulation(table: Tensor, given: Conditioning) -> tuple[Tensor, ...]:
    """The rows of `table` (parts, C), moved by the time: each (B, 1, C), or (B, frames, C) under a frame mask.

    A frame that is given rather than generated has timestep 0, in this and in every step.
    """
    parts = table + torch.unflatten(given.time, 1, (-1, table.shape[1]))  # (B, parts, C)
    if given.frame_mask is None or given.time_zero is None:
        return tuple(part[:, None] for part in parts.unbind(1))
    still = table + torch.unflatten(given.time_zero, 1, (-1, table.shape[1]))
    generated = given.frame_mask[:, :, None]  # (B, frames, 1)
    return tuple(
        torch.where(generated, moving[:, None], at_rest[:, None])
        for moving, at_rest in zip(parts.unbind(1), still.unbind(1), strict=True)
    )


def normed(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`modulated`, after `norm`, which has no weights.

    The module itself is called only where a modulation is the row's. There its input may be cut down to some of the
    tokens by whoever takes over its call; cut down, a token could not be told the modulation of its own frame.
    """
    if shift.shape[1] == 1:
        return modulated(norm(x), shift, scale)
    return modulated(F.layer_norm(x, norm.normalized_shape, eps=norm.eps), shift, scale)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x · (1 + scale) + shift, for `x` (B, N, C) and modulations of the row (B, 1, C) or of its frames (B, T, C)."""
    if shift.shape[1] == 1:
        return x * (1 + scale) + shift
    by_frame = torch.unflatten(x, 1, (shift.shape[1], -1))  # (B, T, S, C)
    return (by_frame * (1 + scale[:, :, None]) + shift[:, :, None]).flatten(1, 2)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """gate · x, for `x` (B, N, C) and a gate of the row (B, 1, C) or of its frames (B, T, C)."""
    if gate.shape[1] == 1:
        return gate * x
    return (gate[:, :, None] * torch.unflatten(x, 1, (gate.shape[1], -1))).flatten(1, 2)
