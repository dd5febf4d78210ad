"""PixArt-α (Chen et al., arXiv 2310.00426): self-attention, cross-attention to the text, and MLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tocache.engine.wiring import Attention, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, patched, width_of
from tocache.models.costs import attention_cost, cross_cost, token_cost
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, UNCOND_COND, Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Weighted

STACK = "transformer_blocks"

PIXART = Recipe(
    name="pixart",
    schedule=Weighted(3, weight=0.2),
    budget=Budget(0.3, {CROSS_ATTENTION: 0.6, MLP: 1.6}, time=0.9, depth=0.6),
    policy=Policy(scores={"entropy": 1.0}, staleness=0.25, spread=0.4, spread_size=4, together=True),
    source="published code, PixArt-alpha-ToCa (ToCa table 1: PixArt-XL/2-256, DPM-Solver++ 20 steps, R = 70%)",
)


class PixArt(ModelFamily):
    """diffusers' PixArtTransformer2DModel."""

    name = "pixart"
    classes = ("PixArtTransformer2DModel",)
    recipes = (PIXART,)
    default_steps = 20
    default_guidance = 4.5

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            path = f"{STACK}.{b}"
            layers.append(Attention((f"{path}.attn1",), f"{path}.attn1", (f"{path}.norm1",), ("image",), by_token=True))
            # cross-attention reads the token stream itself, and norm2 belongs to the MLP
            layers.append(TokenWise(f"{path}.attn2", f"{path}.attn2"))
            layers.append(TokenWise(f"{path}.ff", f"{path}.ff", f"{path}.norm2"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(STACK, ("hidden_states",)),)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, {"image": grid[0] * grid[1]}, grid, itemsize=itemsize_of(transformer), context=text)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        return Pass(rows, {"image": side * side}, (side, side), halves, itemsize=itemsize, context=120)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        depth, width = len(transformer.transformer_blocks), width_of(transformer)
        sites: list[Site] = []
        for b in range(depth):
            path = f"{STACK}.{b}"
            place: dict[str, Any] = {"group": "image", "stack": STACK, "block": b, "depth": depth, "width": width}
            maps: dict[str, Any] = {"self_map": f"{path}.attn1", "cross_map": f"{path}.attn2"}
            sites.append(Site(f"{path}.attn1", SELF_ATTENTION, **place, rows=True, **maps, pairs=2 * width))
            sites.append(Site(f"{path}.attn2", CROSS_ATTENTION, **place, rows=True, **maps))
            sites.append(Site(f"{path}.ff", MLP, **place, rows=True, **maps))
        costs = self._costs(transformer, shape)
        notes = ("norms, modulation and the text's key and value projections are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), costs * depth, notes)

    def _costs(self, transformer: Any, shape: Pass) -> tuple[Cost, Cost, Cost]:
        rows, tokens, block = shape.rows, shape.tokens["image"], transformer.transformer_blocks[0]
        attention = attention_cost(block.attn1, rows, tokens, tokens)
        return (
            replace(attention, token=attention.full // tokens),
            cross_cost(block.attn2, rows, tokens, shape.context),
            token_cost(rows, tokens, block.ff),
        )
