"""`attention_column_sums` in Triton: each program sums up a block of keys over all queries, so that no sum is atomic.

    lse[b, h, m]  = log Σ_n exp(scale · q_m · k_n + mask)
    sums[b, h, n] = Σ_m exp(scale · q_m · k_n + mask − lse[b, h, m])

Two looks at the logits and no map; a flash attention that hands on its log-sum-exp saves the first. How far a loop runs
is a constant of the kernel: a model has one number of tokens, and Triton's interpreter cannot count to a variable under
NumPy 2.4.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tocache.kernels.mask_strides import mask_arguments

_BLOCK = 64


@triton.jit
def logits_of(
    query, key, mask, scale, m, n, d, rows, columns, dim, q_m, q_d, k_n, k_d, s_m, s_n, MASK: tl.constexpr
) -> Any:  # fmt: skip
    """One block (m, n) of masked logits, float32; −inf outside of the keys."""
    q = tl.load(query + m[:, None] * q_m + d[None, :] * q_d, (m[:, None] < rows) & (d[None, :] < dim), 0.0)
    k = tl.load(key + n[None, :] * k_n + d[:, None] * k_d, (n[None, :] < columns) & (d[:, None] < dim), 0.0)
    logits = tl.dot(q, k, input_precision="ieee") * scale  # (m, d) (d, n) -> (m, n), summed up in float32
    inside = (m[:, None] < rows) & (n[None, :] < columns)
    if MASK == 1:  # bool: False hides a key
        seen = tl.load(mask + m[:, None] * s_m + n[None, :] * s_n, inside, 0)
        logits = tl.where(seen != 0, logits, float("-inf"))
    if MASK == 2:  # added
        logits += tl.load(mask + m[:, None] * s_m + n[None, :] * s_n, inside, 0.0).to(tl.float32)
    return tl.where(n[None, :] < columns, logits, float("-inf"))


@triton.jit
def logsumexp_kernel(
    query, key, mask, out, scale, heads, group, rows, dim,
    q_b, q_h, q_m, q_d, k_b, k_h, k_n, k_d, s_b, s_h, s_m, s_n,
    columns: tl.constexpr, MASK: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, H, M) float32 contiguous, of one block of queries; −inf where a query sees no key."""
    pair = tl.program_id(1)
    b, h = pair // heads, pair % heads
    query += b * q_b + h * q_h
    key += b * k_b + (h // group) * k_h
    mask += b * s_b + h * s_h
    m, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        n = start + tl.arange(0, BLOCK)
        logits = logits_of(
            query, key, mask, scale, m, n, d, rows, columns, dim, q_m, q_d, k_n, k_d, s_m, s_n, MASK
        )  # fmt: skip
        higher = tl.maximum(top, tl.max(logits, 1))
        known = tl.where(higher == float("-inf"), 0.0, higher)  # no −inf − −inf
        total = total * tl.exp(top - known) + tl.sum(tl.exp(logits - known[:, None]), 1)
        top = higher
    blind = total == 0.0
    tl.store(out + pair * rows + m, tl.where(blind, float("-inf"), top + tl.log(tl.where(blind, 1.0, total))), m < rows)


@triton.jit
def column_sums_kernel(
    query, key, mask, lse, out, scale, heads, group, columns, dim,
    q_b, q_h, q_m, q_d, k_b, k_h, k_n, k_d, s_b, s_h, s_m, s_n,
    rows: tl.constexpr, MASK: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, H, N) float32 contiguous, of one block of keys; `lse` (B, H, M) likewise."""
    pair = tl.program_id(1)
    b, h = pair // heads, pair % heads
    query += b * q_b + h * q_h
    key += b * k_b + (h // group) * k_h
    mask += b * s_b + h * s_h
    n, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, rows, BLOCK):
        m = start + tl.arange(0, BLOCK)
        logits = logits_of(
            query, key, mask, scale, m, n, d, rows, columns, dim, q_m, q_d, k_n, k_d, s_m, s_n, MASK
        )  # fmt: skip
        whole = tl.load(lse + pair * rows + m, m < rows, float("-inf"))
        seeing = (m < rows) & (whole != float("-inf"))
        whole = tl.where(seeing, whole, 0.0)
        sums += tl.sum(tl.where(seeing[:, None], tl.exp(logits - whole[:, None]), 0.0), 0)
    tl.store(out + pair * columns + n, sums, n < columns)


def multipliable(query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in a dtype that a kernel multiplies with sums in float32; the interpreter has no product of bfloat16."""
    if query.dtype != key.dtype or (query.dtype == torch.bfloat16 and query.device.type == "cpu"):
        return query.float(), key.float()
    return query, key


def column_sums_triton(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    scale: float,
    logsumexp: torch.Tensor | None,
) -> torch.Tensor:
    """`attention_column_sums` with every default filled in: (B, N) float32."""
    batch, heads, rows, dim = query.shape
    columns, group = key.shape[2], heads // key.shape[1]
    query, key = multipliable(query, key)
    kind, given, mask_strides = mask_arguments(mask, (batch, heads, rows, columns), query)
    strides = (*query.stride(), *key.stride(), *mask_strides)
    constants = {"MASK": kind, "D": max(16, triton.next_power_of_2(dim)), "BLOCK": _BLOCK}
    if logsumexp is None:
        logsumexp = query.new_empty(batch, heads, rows, dtype=torch.float32)
        logsumexp_kernel[triton.cdiv(rows, _BLOCK), batch * heads](
            query, key, given, logsumexp, scale, heads, group, rows, dim, *strides, columns=columns, **constants
        )
    logsumexp = logsumexp.float().contiguous()
    by_head = query.new_empty(batch, heads, columns, dtype=torch.float32)
    column_sums_kernel[triton.cdiv(columns, _BLOCK), batch * heads](
        query, key, given, logsumexp, by_head, scale, heads, group, columns, dim, *strides, rows=rows, **constants
    )
    return by_head.mean(dim=1)  # (B, H, N) -> (B, N)
