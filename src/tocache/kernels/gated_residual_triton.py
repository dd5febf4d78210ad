"""`gated_residual` in Triton: each program looks up which of its tokens are fresh, so that all is read once.

The look-up compares a block of tokens with all indices of their row: N · k comparisons of integers, few beside the
N · C numbers that pass by, and no table of places has to be made first.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_TOKENS, _CHANNELS, _INDICES = 16, 128, 64


@triton.jit
def gated_residual_kernel(
    residual, gate, feature, rows, index, out, tokens, width, count,
    r_b, r_n, r_c, g_b, g_c, f_b, f_n, f_c, w_b, w_k, w_c, i_b, i_k,
    chunks: tl.constexpr, GATE: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, N, C) contiguous, of one block of tokens and channels of one row."""
    b = tl.program_id(2)
    n, c = tl.program_id(0) * N + tl.arange(0, N), tl.program_id(1) * C + tl.arange(0, C)
    inside = (n[:, None] < tokens) & (c[None, :] < width)
    places = feature + b * f_b + n[:, None] * f_n + c[None, :] * f_c
    value = tl.load(places, inside, 0.0)
    if chunks > 0:
        found = tl.full([N], -1, tl.int32)  # which of the rows a token gets
        for chunk in range(chunks):
            j = chunk * K + tl.arange(0, K)
            token = tl.load(index + b * i_b + j * i_k, j < count, -1)
            found = tl.maximum(found, tl.max(tl.where(token[None, :] == n[:, None], j[None, :], -1), 1))
        fresh = inside & (found[:, None] >= 0)
        new = tl.load(rows + b * w_b + found[:, None] * w_k + c[None, :] * w_c, fresh, 0.0).to(value.dtype)
        tl.store(places, new, fresh)
        value = tl.where(fresh, new, value)
    wide = value.to(tl.float32)
    if GATE:
        wide = wide * tl.load(gate + b * g_b + c * g_c, c < width, 0.0).to(tl.float32)[None, :]
    wide += tl.load(residual + b * r_b + n[:, None] * r_n + c[None, :] * r_c, inside, 0.0).to(tl.float32)
    at = out + (b * tokens + n[:, None]) * width + c[None, :]
    tl.store(at, wide.to(out.dtype.element_ty), inside)


def _chunks(count: int) -> int:
    """Blocks of indices, as a power of two: a kernel is compiled for each number, and amounts differ by step."""
    return triton.next_power_of_2(triton.cdiv(count, _INDICES)) if count else 0


def gated_residual_triton(
    residual: torch.Tensor,
    gate: torch.Tensor | None,
    feature: torch.Tensor,
    rows: torch.Tensor | None,
    index: torch.Tensor | None,
) -> torch.Tensor:
    """`gated_residual` with every default filled in: (B, N, C)."""
    batch, tokens, width = feature.shape
    out = residual.new_empty(batch, tokens, width)
    if rows is None or index is None:  # something must stand in their places, and is not read
        rows, index = feature[:, :0], torch.empty(batch, 0, dtype=torch.int64, device=feature.device)
    factor = feature[:, :1] if gate is None else gate.expand(batch, 1, width)
    grid = (triton.cdiv(tokens, _TOKENS), triton.cdiv(width, _CHANNELS), batch)
    if out.numel():
        gated_residual_kernel[grid](
            residual, factor, feature, rows, index, out, tokens, width, index.shape[1],
            *residual.stride(), factor.stride(0), factor.stride(2), *feature.stride(), *rows.stride(), *index.stride(),
            chunks=_chunks(index.shape[1]), GATE=gate is not None, N=_TOKENS, C=_CHANNELS, K=_INDICES,
        )  # fmt: skip
    return out
