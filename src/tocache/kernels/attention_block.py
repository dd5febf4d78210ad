"""Attention probabilities of one block of a larger attention, in float32 and in memory that is used again.

Logits are float32 products also of bfloat16 inputs: on CPUs without AMX that is faster than a bfloat16 product, and
rounded logits would move column sums by 1e-3, far more than neighbouring tokens differ.
"""

from __future__ import annotations

import torch

from tocache.kernels.asking import may_ask

# How many probabilities are held at once. On a CPU 2 MiB of them stay in the caches of two cores between the passes
# over them; on an accelerator 256 MiB keep the number of launches small.
_BLOCK_CPU = 2**19
_BLOCK_ACCELERATOR = 2**26


def block_elements(device: torch.device) -> int:
    """How many float32 probabilities a kernel should hold at once on this kind of device."""
    return _BLOCK_CPU if device.type == "cpu" else _BLOCK_ACCELERATOR


def in_float32(device: torch.device) -> torch.autocast:
    """The context in which scores are computed: a caller's autocast would make halves of the float32 products."""
    return torch.autocast(device.type, enabled=False)


def repeat_key_heads(key: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, Hk, N, D) -> (B, heads, N, D): under grouped-query attention, consecutive query heads share a key head."""
    return key if key.shape[1] == heads else key.repeat_interleave(heads // key.shape[1], dim=1)


def attention_probabilities(
    query: torch.Tensor,
    key: torch.Tensor,
    scratch: torch.Tensor,
    *,
    scale: float,
    mask: torch.Tensor | None = None,
    logsumexp: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(scale · query · keyᵀ + mask), (B, H, M, N), written to the start of the flat float32 `scratch`.

    `query` (B, H, M, D) of any dtype and layout; `key` (B, H, N, D) contiguous float32; `mask` (B, H, M, N), bool
    (False hides a key) or added to the logits; `logsumexp` (B, H, M) of the masked logits, where it is known.
    A query that may see no key at all gives zeros, as in torch's scaled_dot_product_attention.
    """
    *lead, rows, columns = *query.shape[:3], key.shape[2]
    batch = lead[0] * lead[1]
    flat = scratch[: batch * rows * columns].view(batch, rows, columns)
    # the scale goes on the query, which is the smallest operand
    scaled = (query.float() * scale).reshape(batch, rows, -1)  # (B, H, M, D) -> (B·H, M, D)
    torch.bmm(scaled, key.flatten(0, 1).transpose(1, 2), out=flat)  # (B·H, M, N)
    logits = flat.view(*lead, rows, columns)
    blind = None if mask is None else _blind(mask)
    if mask is not None:
        _add_mask(logits, mask)
    if logsumexp is None:
        torch.softmax(logits, dim=-1, out=logits)
    else:
        logits.sub_(logsumexp.float().unsqueeze(-1)).exp_()
    return logits if blind is None else logits.masked_fill_(blind, 0.0)


def _add_mask(logits: torch.Tensor, mask: torch.Tensor) -> None:
    """Masks `logits` in place."""
    if mask.dtype == torch.bool:
        logits.masked_fill_(~mask, -torch.inf)
    else:
        logits.add_(mask)


def _blind(mask: torch.Tensor) -> torch.Tensor | None:
    """Broadcastable to (B, H, M, 1): True where a query sees no key, whose softmax would be NaN; None if all see one.

    Read off the mask before it was expanded: the same for all heads and queries, most masks are a few numbers. An
    accelerator is not asked whether there is any such query, since the answer would have to be waited for.
    """
    own = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride()[:-1])]
    hidden = ~own if own.dtype == torch.bool else own == -torch.inf
    blind = hidden.all(dim=-1, keepdim=True)
    return None if may_ask(blind) and not bool(blind.any()) else blind
