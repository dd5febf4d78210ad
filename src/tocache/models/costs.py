"""What sub-layers cost, read off their modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tocache.plan.anatomy import Cost

OWN = ("to_q", "to_k", "to_v", "to_out")  # the projections of an attention in diffusers
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")  # those of the text in a joint attention


def linear_flops(modules: Iterable[Any]) -> int:
    """FLOPs of the linear layers in `modules` for one token; what a LoRA adds to a layer is not counted."""
    return sum(
        2 * int(module.in_features) * int(module.out_features)
        if hasattr(module, "in_features")
        else linear_flops(module.children())
        for module in modules
    )


def attention_cost(attn: Any, rows: int, tokens: int, keys: int, projections: Sequence[str] = OWN) -> Cost:
    """`tokens` queries of every row over `keys` keys, with these of the attention's projections; computed whole.

    The first of them are the queries'.
    """
    width = int(getattr(attn, projections[0]).out_features)
    token = linear_flops(getattr(attn, name) for name in projections) + 4 * keys * width
    return Cost(full=rows * tokens * token, token=0, scores=rows * tokens * 2 * keys * width)


def token_cost(rows: int, tokens: int, *modules: Any) -> Cost:
    """Modules that treat every token by itself: their linear layers."""
    token = linear_flops(modules)
    return Cost(full=rows * tokens * token, token=rows * token)


def flop_counter() -> FlopCounterMode:
    """Torch's counter of FLOPs, silent, with the CPU's attention kernel, which it lacks."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Both products of one attention, from shapes (B, heads, N, D)."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])
