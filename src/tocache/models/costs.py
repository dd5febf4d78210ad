"""What sub-layers cost, read off their modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
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


def linear_weights(modules: Iterable[Any]) -> int:
    """Parameters of the linear layers in `modules`, biases included."""
    return sum(
        (int(module.in_features) + (getattr(module, "bias", None) is not None)) * int(module.out_features)
        if hasattr(module, "in_features")
        else linear_weights(module.children())
        for module in modules
    )


def linear_moved(modules: Iterable[Any]) -> int:
    """Numbers that the linear layers in `modules` read and write for one token; what is between them is fused."""
    return sum(
        int(module.in_features) + int(module.out_features)
        if hasattr(module, "in_features")
        else linear_moved(module.children())
        for module in modules
    )


def attention_cost(attn: Any, rows: int, tokens: int, keys: int, projections: Sequence[str] = OWN) -> Cost:
    """`tokens` queries of every row over `keys` keys, with these of the attention's projections; computed whole.

    The first of them are the queries'. Its map stays within the processor (Flash attention).
    """
    width = int(getattr(attn, projections[0]).out_features)
    modules = [getattr(attn, name) for name in projections]
    token = linear_flops(modules) + 4 * keys * width
    return Cost(
        full=rows * tokens * token,
        token=0,
        scores=rows * tokens * 2 * keys * width,
        weights=linear_weights(modules),
        moved=rows * (linear_moved(modules) + 4 * width),  # reads query, key and value, writes its output
    )


def cross_cost(attn: Any, rows: int, tokens: int, keys: int, projections: Sequence[str] = OWN) -> Cost:
    """`tokens` queries of every row over a text of `keys` tokens, whose keys and values are made anew in every call.

    These projections' FLOPs are not counted: the published tables leave them out.
    """
    own, text = (projections[0], projections[-1]), [getattr(attn, name) for name in projections[1:3]]
    width = int(getattr(attn, projections[0]).out_features)
    whole = attention_cost(attn, rows, tokens, keys, own)
    return replace(
        whole,
        token=whole.full // tokens,
        weights=whole.weights + linear_weights(text),
        moved=whole.moved - rows * 2 * width,  # keys and values are not the tokens' own
        shared=rows * keys * (linear_moved(text) + 2 * width),
    )


def token_cost(rows: int, tokens: int, *modules: Any) -> Cost:
    """Modules that treat every token by itself: their linear layers."""
    token = linear_flops(modules)
    return Cost(
        full=rows * tokens * token,
        token=rows * token,
        weights=linear_weights(modules),
        moved=rows * linear_moved(modules),
    )


def outside_weights(transformer: Any, costs: Iterable[Cost]) -> int:
    """Parameters of no site: embeddings, modulation, the last projection. Lookup tables, read by the row, are none."""
    return max(0, weights_read([transformer]) - sum(cost.weights for cost in costs))


def weights_read(modules: Iterable[Any]) -> int:
    """Parameters of `modules`, each counted once; those of lookup tables are not."""
    found: dict[int, int] = {}
    for module in modules:
        tables = {id(part.weight) for part in module.modules() if isinstance(part, torch.nn.Embedding)}
        found |= {id(weight): int(weight.numel()) for weight in module.parameters() if id(weight) not in tables}
    return sum(found.values())


def flop_counter() -> FlopCounterMode:
    """Torch's counter of FLOPs, silent, with the CPU's attention kernel, which it lacks."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Both products of one attention, from shapes (B, heads, N, D)."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])
