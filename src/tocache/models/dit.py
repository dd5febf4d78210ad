"""DiT (Peebles & Xie, arXiv 2212.09748): self-attention and MLP, with a modulation per block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tocache.engine.wiring import Attention, Conditioned, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, patched, width_of
from tocache.models.costs import attention_cost, token_cost
from tocache.plan.anatomy import COND_UNCOND, MLP, SELF_ATTENTION, Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Sensitive, Weighted

STACK = "transformer_blocks"

_POLICY = Policy(scores={"influence": 1.0}, staleness=0.25, spread=0.6, spread_size=2)
# 1 + 0.6·2.5: the published split between attention (none) and MLP
_KINDS = {MLP: 2.5}
_SENSITIVE = Sensitive(start=0.2, stop=0.4, interval=2)

DDIM50 = Recipe(
    name="dit-ddim50",
    schedule=Weighted(3, weight=0.4, countdown=True, sensitive=_SENSITIVE),
    budget=Budget(0.07, _KINDS, time=2.0, depth=-0.2, countdown=True),
    policy=_POLICY,
    source="published code, ToCa-ddim50 (ToCa table 3: DiT-XL/2-256, DDIM 50 steps)",
)
DDPM250 = Recipe(
    name="dit-ddpm250",
    schedule=Weighted(4, weight=0.4, countdown=True, sensitive=_SENSITIVE),
    budget=Budget(0.07, _KINDS, time=0.4, depth=0.8, countdown=True),
    policy=_POLICY,
    source="published code, ToCa-ddpm250 (ToCa table 4: DiT-XL/2-256, DDPM 250 steps)",
)


class DiT(ModelFamily):
    """diffusers' DiTTransformer2DModel."""

    name = "dit"
    classes = ("DiTTransformer2DModel",)
    recipes = (DDIM50, DDPM250)
    default_steps = 50
    default_guidance = 4.0

    def recipe(self, steps: int) -> Recipe:
        return DDIM50 if steps <= 100 else DDPM250

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            path = f"{STACK}.{b}"
            layers.append(Attention((f"{path}.attn1",), f"{path}.attn1", (f"{path}.norm1",), ("image",), by_token=True))
            layers.append(TokenWise(f"{path}.ff", f"{path}.ff", f"{path}.norm3"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(STACK, ("hidden_states",)),)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        return Pass(rows, {"image": grid[0] * grid[1]}, grid, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        rows, halves = (2 * pictures, COND_UNCOND) if guided else (pictures, None)
        return Pass(rows, {"image": side * side}, (side, side), halves, itemsize=itemsize)

    def conditioned(self, transformer: Any) -> Conditioned:
        # each block has an embedding of its own; the output takes that of the first
        norms = [f"{STACK}.{b}.norm1" for b in range(len(transformer.transformer_blocks))]
        projections: dict[str, tuple[str, ...]] = {f"{norm}.emb": (f"{norm}.linear",) for norm in norms}
        projections[f"{norms[0]}.emb"] += ("proj_out_1",)
        return Conditioned("timestep", ("class_labels",), projections, _embed)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, COND_UNCOND)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        blocks = transformer.transformer_blocks
        depth, width = len(blocks), width_of(transformer)
        sites: list[Site] = []
        for b in range(depth):
            attention = f"{STACK}.{b}.attn1"
            place: dict[str, Any] = {"group": "image", "stack": STACK, "block": b, "depth": depth, "width": width}
            own: dict[str, Any] = {"self_map": attention, "pairs": 2 * width}
            sites.append(Site(attention, SELF_ATTENTION, **place, rows=True, **own))
            sites.append(Site(f"{STACK}.{b}.ff", MLP, **place, rows=True, self_map=attention))
        costs = self._costs(transformer, shape, width)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), costs * depth)

    def _costs(self, transformer: Any, shape: Pass, width: int) -> tuple[Cost, Cost]:
        """Attention and MLP of one block, counted as the published code counts them (method.md §1)."""
        rows, tokens, heads = shape.rows, shape.tokens["image"], transformer.config.num_attention_heads
        block = transformer.transformer_blocks[0]
        inner = block.ff.net[2].in_features
        projections = 8 * tokens * width**2
        inner_products = 4 * tokens**2 * width + 5 * heads * tokens**2 + tokens * width
        always = 2 * tokens * width + width + 6 * width**2  # norms, and adaLN counted as multiply-accumulates
        return (
            replace(
                attention_cost(block.attn1, rows, tokens, tokens),
                full=rows * (projections + inner_products),
                token=rows * (8 * width**2 + 4 * tokens * width + 5 * heads * tokens + width),
                always=rows * always,
            ),
            # 24·width: the activation, as the published code counts it
            replace(
                token_cost(rows, tokens, block.ff),
                full=rows * tokens * (4 * width * inner + 6 * inner),
                token=rows * (4 * width * inner + 6 * inner),
            ),
        )


def _embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
    embedded: torch.Tensor = module(arguments["timestep"], arguments["class_labels"], hidden_dtype=dtype)
    return embedded
