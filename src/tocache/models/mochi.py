"""Mochi 1 (Genmo): double-stream blocks, in which the text is narrower; the last one drops it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.models.stacked import Blocks, Kind, Stacked
from tocache.plan.anatomy import MLP, UNCOND_COND, Pass

# the attention runs once for each row, without the padding of its text, and so its map cannot be read
MOCHI = unpublished("mochi", MLP, score="norm")
BLOCK = DoubleStream(
    attention="attn1",
    mlp_norms=("norm3", "norm3_context"),
    keys=("image", "text"),
    scored=False,
)

_USUAL_GRID = (4, 30, 53)  # 19 frames of 480 × 848 pixels


class Mochi(Stacked):
    """diffusers' MochiTransformer3DModel."""

    name = "mochi"
    classes = ("MochiTransformer3DModel",)
    recipes = (MOCHI,)
    default_steps = 64
    default_guidance = 4.5
    stacked = (Blocks("transformer_blocks", BLOCK, ("hidden_states", "encoder_hidden_states")),)
    halves = UNCOND_COND
    notes = ("norms and modulation are not counted", "attention is counted as if it did not leave the padding out")

    def kind(self, blocks: Blocks, block: Any) -> Kind:
        return replace(BLOCK, last=block.context_pre_only, text_width=int(block.attn1.add_k_proj.in_features))

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, frames, height, width = arguments["hidden_states"].shape
        patch = transformer.config.patch_size
        grid = (frames, height // patch, width // patch)
        tokens = joint_tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        text = transformer.config.max_sequence_length
        return Pass(1, joint_tokens(math.prod(_USUAL_GRID), text), _USUAL_GRID)
