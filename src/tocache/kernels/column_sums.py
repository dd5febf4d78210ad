"""Column sums of the self-attention map, without the map: what ToCa's score s1 is made of."""

from __future__ import annotations

from itertools import product
from typing import Protocol

import torch

from tocache.kernels.attention_block import attention_probabilities, block_elements, in_float32, repeat_key_heads
from tocache.kernels.backends import Backends


class ColumnSums(Protocol):
    """What a backend implements: `attention_column_sums` with every default filled in."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        *,
        mask: torch.Tensor | None,
        scale: float,
        logsumexp: torch.Tensor | None,
    ) -> torch.Tensor: ...


@torch.no_grad()
def attention_column_sums(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    logsumexp: torch.Tensor | None = None,
    query_index: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """(B, N) float32: the attention each key gets, summed over queries and averaged over heads (ToCa's s1).

        sums[b, n] = mean_h Σ_m softmax(scale · query · keyᵀ + mask)[b, h, m, n]

    `query` (B, H, M, D) and `key` (B, Hk, N, D) are what scaled_dot_product_attention gets: any float dtype and
    layout, Hk a divisor of H. `mask` broadcasts to (B, H, M, N), bool (False hides a key) or added; `scale` is
    1/√D unless given. The sums of a row add up to M, less the queries from which a mask hides every key.
    `logsumexp` (B, H, M), natural, of the masked logits: a flash attention that has it saves one pass here; the sums
    are then only as exact as it is. `query_index` (m,) int64 takes these queries alone, scaled by M/m: an unbiased
    estimate where they are drawn uniformly.
    Memory beyond the inputs stays bounded (`block_elements`). Raises UnknownNameError for an unknown `backend`.
    """
    function = COLUMN_SUMS.of(backend, query)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if query_index is None:
        return function(query, key, mask=mask, scale=scale, logsumexp=logsumexp)
    sums = function(
        query.index_select(2, query_index),  # (B, H, M, D) -> (B, H, m, D)
        key,
        mask=_select_queries(mask, query_index),
        scale=scale,
        logsumexp=None if logsumexp is None else logsumexp.index_select(2, query_index),
    )
    return sums * (query.shape[2] / query_index.shape[0])


def column_sums_torch(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    scale: float,
    logsumexp: torch.Tensor | None,
) -> torch.Tensor:
    """The reference: `attention_column_sums` in plain torch, block by block."""
    batch, heads, rows, _ = query.shape
    columns = key.shape[2]
    key = repeat_key_heads(key, heads)
    if mask is not None:
        mask = mask.expand(batch, heads, rows, columns)
    with in_float32(query.device):
        return _blockwise(query, key, mask, scale, logsumexp)


def _blockwise(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    logsumexp: torch.Tensor | None,
) -> torch.Tensor:
    batch, heads, rows, _ = query.shape
    columns = key.shape[2]
    step = _block_shape(batch, heads, rows, columns, block_elements(query.device))
    scratch = torch.empty(step[0] * step[1] * step[2] * columns, dtype=torch.float32, device=query.device)
    by_head = torch.zeros(batch, heads, columns, dtype=torch.float32, device=query.device)
    for b, h in product(_slices(batch, step[0]), _slices(heads, step[1])):
        keys = key[b, h].float().contiguous()
        for m in _slices(rows, step[2]):
            probabilities = attention_probabilities(
                query[b, h, m],
                keys,
                scratch,
                scale=scale,
                mask=None if mask is None else mask[b, h, m],
                logsumexp=None if logsumexp is None else logsumexp[b, h, m],
            ).flatten(0, 1)  # (b, h, m, N) -> (b·h, m, N)
            # a product with ones is a faster sum than .sum(), and per head it rounds no worse
            ones = probabilities.new_ones(probabilities.shape[0], 1, probabilities.shape[1])
            by_head[b, h] += torch.bmm(ones, probabilities).view(*keys.shape[:2], columns)  # (b·h, 1, N) -> (b, h, N)
    return by_head.mean(dim=1)  # (B, H, N) -> (B, N)


def _triton() -> ColumnSums:
    from tocache.kernels.column_sums_triton import column_sums_triton

    return column_sums_triton


COLUMN_SUMS: Backends[ColumnSums] = Backends(column_sums_torch, _triton)


def _select_queries(mask: torch.Tensor | None, query_index: torch.Tensor) -> torch.Tensor | None:
    """The mask of the queries `query_index`; one that is the same for all queries stays as it is."""
    if mask is None or mask.dim() < 2 or mask.shape[-2] == 1:
        return mask
    return mask.index_select(-2, query_index)


def _block_shape(batch: int, heads: int, rows: int, columns: int, elements: int) -> tuple[int, int, int]:
    """How many images, heads and queries one block takes, so that it holds about `elements` probabilities.

    Whole heads where one fits, whole images where all their heads fit; at least one row in any case.
    """
    fit = [elements // max(size, 1) for size in (heads * rows * columns, rows * columns, columns)]
    return min(batch, max(fit[0], 1)), min(heads, max(fit[1], 1)), min(rows, max(fit[2], 1))


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]
