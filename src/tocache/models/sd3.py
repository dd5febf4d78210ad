"""Stable Diffusion 3 and 3.5 (Esser et al., arXiv 2403.03206): double-stream blocks; the last one drops the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tocache.engine.wiring import Attention, Conditioned, Guidance, Layer, Stack
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, patched, unpublished, width_of
from tocache.models.costs import attention_cost
from tocache.models.double_stream import DoubleStream, joint_tokens, modulations
from tocache.plan.anatomy import MLP, SELF_ATTENTION, UNCOND_COND, Anatomy, Cost, Pass, Site

STACK = "transformer_blocks"
SD3_RECIPE = unpublished("sd3", MLP)
TEXT_TOKENS = 77 + 256  # CLIP's, then T5's

BLOCK = DoubleStream(keys=("image", "text"))
# one norm of the image feeds both attentions, and the first need not run when the second does
DUAL = DoubleStream(keys=("image", "text"), norms=("norm1_context",))


class SD3(ModelFamily):
    """diffusers' SD3Transformer2DModel."""

    name = "sd3"
    classes = ("SD3Transformer2DModel",)
    recipes = (SD3_RECIPE,)
    default_steps = 28
    default_guidance = 7.0

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b, block in enumerate(transformer.transformer_blocks):
            path, dual = f"{STACK}.{b}", block.attn2 is not None
            attention, *mlps = self._kind(block).layers(path)
            second = [Attention((f"{path}.attn2",), f"{path}.attn2", (), ("image",))] if dual else []
            layers += [attention, *second, *mlps]
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(STACK, ("encoder_hidden_states", "hidden_states")),)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        tokens = joint_tokens(grid[0] * grid[1], arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        return Pass(rows, joint_tokens(side * side, TEXT_TOKENS), (side, side), halves, itemsize=itemsize)

    def conditioned(self, transformer: Any) -> Conditioned:
        projections = modulations(STACK, len(transformer.transformer_blocks))
        return Conditioned("timestep", ("pooled_projections",), {"time_text_embed": projections}, _embed)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        blocks, width = transformer.transformer_blocks, width_of(transformer)
        sites: list[Site] = []
        costs: list[Cost] = []
        for b, block in enumerate(blocks):
            path, last = f"{STACK}.{b}", block.context_pre_only
            place: dict[str, Any] = {"stack": STACK, "block": b, "depth": len(blocks), "width": width}
            kind = self._kind(block)
            own, prices = kind.sites(path, place), kind.costs(block, shape)
            if block.attn2 is not None:
                at, image = (1 if last else 2), shape.tokens["image"]
                own.insert(at, Site(f"{path}.attn2", SELF_ATTENTION, "image", **place, rows=False))
                prices.insert(at, attention_cost(block.attn2, shape.rows, image, image))
            sites += own
            costs += prices
        notes = ("norms and modulation are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)

    def _kind(self, block: Any) -> DoubleStream:
        return replace(BLOCK if block.attn2 is None else DUAL, last=block.context_pre_only)


def _embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
    embedded: torch.Tensor = module(arguments["timestep"], arguments["pooled_projections"])
    return embedded
