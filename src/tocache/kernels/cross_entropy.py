"""Entropy of the cross-attention over the text: what ToCa's score s2 is made of."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import torch

from tocache.kernels.attention_block import attention_probabilities, block_elements, in_float32, repeat_key_heads
from tocache.kernels.backends import Backends

_LOG_OFFSET = 1e-7  # inside the published logarithm, so that hidden keys give 0 · log(1e-7) instead of NaN


class Entropy(Protocol):
    """What a backend implements: `attention_entropy` with every default filled in."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        *,
        mask: torch.Tensor | None,
        scale: float,
        weight: float,
        offset: float,
    ) -> torch.Tensor: ...


@torch.no_grad()
def attention_entropy(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    weight: float = 1.0,
    backend: str = "auto",
) -> torch.Tensor:
    """(B, M) float32, in nats: how evenly each query attends to the keys (ToCa's s2).

        c = weight · mean_h softmax(scale · query · keyᵀ + mask);   entropy[b, m] = −Σ_n c log(c + 1e-7)

    `query` (B, H, M, D) and `key` (B, Hk, L, D) are what scaled_dot_product_attention gets: any float dtype and
    layout, Hk a divisor of H. `mask` broadcasts to (B, H, M, L), bool (False hides a key) or added; `scale` is 1/√D
    unless given. With `weight` 0.5 the entropies of two guidance halves, whose texts share no key, add up to that of
    their merged map (`merge_halves`). Memory beyond the inputs stays bounded (`block_elements`).
    Raises UnknownNameError for an unknown `backend`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    function = ENTROPY.of(backend, query)
    return function(query, key, mask=mask, scale=scale, weight=weight, offset=_LOG_OFFSET)


def entropy_torch(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    scale: float,
    weight: float,
    offset: float,
) -> torch.Tensor:
    """The reference: `attention_entropy` in plain torch, block by block."""
    batch, heads, rows, _ = query.shape
    columns = key.shape[2]
    if mask is not None:
        mask = mask.expand(batch, heads, rows, columns)
    # texts are short, so a block takes all heads and their mean never waits for another block
    step = min(rows, max(block_elements(query.device) // max(heads * columns, 1), 1))
    scratch = torch.empty(heads * step * columns, dtype=torch.float32, device=query.device)
    entropy = torch.empty(batch, rows, dtype=torch.float32, device=query.device)
    for image in range(batch):
        b = slice(image, image + 1)
        keys = repeat_key_heads(key[b].float(), heads).contiguous()  # (1, H, L, D)
        for start in range(0, rows, step):
            m = slice(start, start + step)
            part = None if mask is None else mask[b, :, m]
            with in_float32(query.device):
                probabilities = attention_probabilities(query[b, :, m], keys, scratch, scale=scale, mask=part)
            mixed = probabilities.mean(dim=1).mul_(weight)  # (1, H, m, L) -> (1, m, L)
            entropy[b, m] = -(mixed * torch.log(mixed + offset)).sum(dim=-1)  # (1, m, L) -> (1, m)
    return entropy


@cache
def _triton() -> Entropy:
    from tocache.kernels.cross_entropy_triton import MOST_KEYS, entropy_triton

    def short(query: torch.Tensor, key: torch.Tensor, **options: Any) -> torch.Tensor:
        return (entropy_triton if key.shape[2] <= MOST_KEYS else entropy_torch)(query, key, **options)

    return short


ENTROPY: Backends[Entropy] = Backends(entropy_torch, _triton)
