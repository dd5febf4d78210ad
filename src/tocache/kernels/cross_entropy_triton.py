"""`attention_entropy` in Triton: each program mixes the maps of all heads for a block of queries, in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tocache.kernels.column_sums_triton import logits_of, multipliable
from tocache.kernels.mask_strides import mask_arguments

_BLOCK = 16
MOST_KEYS = 1024
"""Keys whose probabilities one program holds for all of its queries; texts are shorter."""


@triton.jit
def entropy_kernel(
    query, key, mask, out, scale, weight, offset, group, rows, columns, dim,
    q_b, q_h, q_m, q_d, k_b, k_h, k_n, k_d, s_b, s_h, s_m, s_n,
    heads: tl.constexpr, MASK: tl.constexpr, D: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """`out` (B, M) float32 contiguous, of one block of queries."""
    b = tl.program_id(1)
    query += b * q_b
    key += b * k_b
    mask += b * s_b
    m, n, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N), tl.arange(0, D)
    mixed = tl.zeros([BLOCK, N], tl.float32)
    for h in range(0, heads):
        logits = logits_of(
            query + h * q_h, key + (h // group) * k_h, mask + h * s_h,
            scale, m, n, d, rows, columns, dim, q_m, q_d, k_n, k_d, s_m, s_n, MASK,
        )  # fmt: skip
        top = tl.max(logits, 1)
        top = tl.where(top == float("-inf"), 0.0, top)  # a query that sees no key gives zeros
        shares = tl.exp(logits - top[:, None])
        total = tl.sum(shares, 1)
        mixed += shares / tl.where(total == 0.0, 1.0, total)[:, None]
    mixed = mixed * (weight / heads)
    terms = tl.where(n[None, :] < columns, mixed * tl.log(mixed + offset), 0.0)
    tl.store(out + b * rows + m, -tl.sum(terms, 1), m < rows)


def entropy_triton(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    scale: float,
    weight: float,
    offset: float,
) -> torch.Tensor:
    """`attention_entropy` with every default filled in, of at most `MOST_KEYS` keys: (B, M) float32."""
    batch, heads, rows, dim = query.shape
    columns, group = key.shape[2], heads // key.shape[1]
    query, key = multipliable(query, key)
    kind, given, strides = mask_arguments(mask, (batch, heads, rows, columns), query)
    entropy = query.new_empty(batch, rows, dtype=torch.float32)
    entropy_kernel[(triton.cdiv(rows, _BLOCK), batch)](
        query, key, given, entropy, scale, weight, offset, group, rows, columns, dim,
        *query.stride(), *key.stride(), *strides,
        heads=heads, MASK=kind, BLOCK=_BLOCK,
        D=max(16, triton.next_power_of_2(dim)), N=max(16, triton.next_power_of_2(columns)),
    )  # fmt: skip
    return entropy
