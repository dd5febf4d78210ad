"""Bria Fibo (Bria AI): FLUX's blocks, each with another layer of the text encoder in half of the text's channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tocache.models.base import unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens, packed_pass
from tocache.models.flux import grid_of
from tocache.models.single_stream import SingleStream
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import JOINT, MLP, PARALLEL, UNCOND_COND, Pass

_TEXT = 1024  # a prompt is a page of JSON


class BriaFibo(Stacked):
    """diffusers' BriaFiboTransformer2DModel, whose shorter texts are padded to the longest of a batch."""

    name = "bria-fibo"
    classes = ("BriaFiboTransformer2DModel",)
    recipes = (unpublished("bria-fibo", MLP, PARALLEL),)
    default_steps = 50
    default_guidance = 5.0
    stacked = (
        Blocks("transformer_blocks", DoubleStream(padded=True), ("encoder_hidden_states", "hidden_states")),
        Blocks("single_transformer_blocks", SingleStream(counted="image")),
    )
    halves = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        return packed_pass(transformer, arguments)

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return grid_of(arguments)

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        mask = (arguments.get("joint_attention_kwargs") or {}).get("attention_mask")  # (rows, 1, 1, tokens)
        return {} if mask is None else {JOINT: mask[:, 0, 0].bool()}

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(64 * 64, _TEXT), (64, 64))
