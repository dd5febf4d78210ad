"""Attention and the column sums of its map together: what a full step pays for when a later one needs scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tocache.kernels.attention_block import attention_probabilities, in_float32, repeat_key_heads
from tocache.kernels.column_sums import attention_column_sums

# Elements of one image's map, all heads, up to which a CPU keeps it near enough that one pass is the faster way.
# benchmarks/results/latency.jsonl has both: a full step cost 3.8% more with a second look, and 0.1% less in one pass.
_ONE_PASS_ELEMENTS = 2**21


def attention_with_column_sums(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(output, sums): scaled_dot_product_attention, (B, H, M, D) in the dtype of `query`, and the sums of its map.

    The sums are `attention_column_sums(query, key, …)`, (B, N) float32; arguments are as there, `value` like `key`.
    Half precision on a CPU takes one pass with the map of one image in float32, where that is small: faster than
    torch's attention alone and closer to the exact result, though not bit-equal to torch's. Everything else takes
    torch's attention and a second look.
    """
    if _one_pass_pays(query, key):
        with in_float32(query.device):
            return _one_pass(query, key, value, mask, query.shape[-1] ** -0.5 if scale is None else scale)
    grouped = key.shape[1] != query.shape[1]
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)
    return output, attention_column_sums(query, key, mask=mask, scale=scale)


def _one_pass_pays(query: torch.Tensor, key: torch.Tensor) -> bool:
    small = query.shape[1] * query.shape[2] * key.shape[2] <= _ONE_PASS_ELEMENTS
    half = query.dtype in (torch.bfloat16, torch.float16)
    return small and half and query.device.type == "cpu" and not torch.is_grad_enabled()


def _one_pass(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, rows, _ = query.shape
    columns, width = key.shape[2], value.shape[-1]
    if mask is not None:
        mask = mask.expand(batch, heads, rows, columns)
    scratch = torch.empty(heads * rows * columns, dtype=torch.float32)
    ones = torch.ones(heads, 1, rows, dtype=torch.float32)
    # laid out as (B, M, H, D), so that the caller's merging of the heads copies nothing
    output = torch.empty(batch, rows, heads, width, dtype=query.dtype).transpose(1, 2)  # (B, H, M, D)
    sums = torch.empty(batch, columns, dtype=torch.float32)
    for b in range(batch):
        one = slice(b, b + 1)
        keys = repeat_key_heads(key[one], heads).float().contiguous()
        part = None if mask is None else mask[one]
        map_ = attention_probabilities(query[one], keys, scratch, scale=scale, mask=part)[0]  # (H, M, N)
        sums[b] = torch.bmm(ones, map_).sum(dim=(0, 1)).div_(heads)  # (H, 1, N) -> (N,)
        output[b] = torch.bmm(map_, repeat_key_heads(value[one], heads)[0].float())
    return output, sums
