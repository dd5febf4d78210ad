"""Cosmos (NVIDIA, arXiv 2501.03575): self-attention, attention to the text, and MLP, each behind its own modulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, Pass

COSMOS = unpublished("cosmos", CROSS_ATTENTION, MLP)
BLOCK = Separable(Module("attn1", "norm1"), Module("ff", "norm3"), cross=Module("attn2", "norm2"))

_TEXT = 512
_USUAL_GRID = (16, 44, 80)  # 121 frames of 704 × 1280 pixels


class Cosmos(Stacked):
    """diffusers' CosmosTransformer3DModel, of Cosmos Predict 1 and 2."""

    name = "cosmos"
    classes = ("CosmosTransformer3DModel",)
    recipes = (COSMOS,)
    default_steps = 36
    default_guidance = 7.0
    stacked = (Blocks("transformer_blocks", BLOCK),)
    notes = (*CROSS_NOTES, "attention to a given picture, which Cosmos 2.5 has, is not counted")

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        grid = tuple(side // patch for side, patch in zip(latent, transformer.config.patch_size, strict=True))
        text = arguments["encoder_hidden_states"]
        text = text[0] if isinstance(text, tuple) else text  # a picture may stand beside it
        tokens = {"image": math.prod(grid)}
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer), context=text.shape[1])

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, {"image": math.prod(_USUAL_GRID)}, _USUAL_GRID, context=_TEXT)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # with given frames every frame has a time of its own
        return bool(arguments["timestep"].ndim == 1)
