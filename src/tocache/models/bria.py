"""Bria 3.2 (Bria AI): FLUX's blocks, with both guidance halves in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocache.models.base import unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens, packed_pass
from tocache.models.flux import grid_of
from tocache.models.single_stream import SingleStream
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, PARALLEL, UNCOND_COND, Pass

STREAMS = ("encoder_hidden_states", "hidden_states")


class Bria(Stacked):
    """diffusers' BriaTransformer2DModel."""

    name = "bria"
    classes = ("BriaTransformer2DModel",)
    recipes = (unpublished("bria", MLP, PARALLEL),)
    default_steps = 30
    default_guidance = 5.0
    stacked = (
        Blocks("transformer_blocks", DoubleStream(), STREAMS),
        Blocks("single_transformer_blocks", SingleStream(), STREAMS),
    )
    halves = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        return packed_pass(transformer, arguments)

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return grid_of(arguments)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(64 * 64, 128), (64, 64))
