"""AuraFlow (fal.ai): double-stream blocks, then blocks on the joint stream; after them the text is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, patched, unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, UNCOND_COND, Pass

AURA_FLOW = unpublished("aura-flow", MLP)
BLOCK = DoubleStream()
SINGLE_BLOCK = Separable(Module("attn", "norm1"), Module("ff", "norm2"), group="joint")


class AuraFlow(Stacked):
    """diffusers' AuraFlowTransformer2DModel."""

    name = "aura-flow"
    classes = ("AuraFlowTransformer2DModel",)
    recipes = (AURA_FLOW,)
    default_steps = 50
    default_guidance = 3.5
    stacked = (
        Blocks("joint_transformer_blocks", BLOCK, ("encoder_hidden_states", "hidden_states")),
        Blocks("single_transformer_blocks", SINGLE_BLOCK),
    )
    halves = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text = arguments["encoder_hidden_states"].shape[1] + transformer.register_tokens.shape[1]
        return Pass(rows, joint_tokens(grid[0] * grid[1], text), grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        return Pass(1, joint_tokens(side * side, 256 + transformer.register_tokens.shape[1]), (side, side))
