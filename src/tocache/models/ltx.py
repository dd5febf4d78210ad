"""LTX-Video (Lightricks, arXiv 2501.00103): self-attention, attention to the text, and MLP, on packed latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, UNCOND_COND, Pass

LTX = unpublished("ltx", CROSS_ATTENTION, MLP)
# attention to the text reads the token stream itself
BLOCK = Separable(Module("attn1", "norm1"), Module("ff", "norm2"), cross=Module("attn2"))

_TEXT = 128
_USUAL_GRID = (21, 16, 22)  # 161 frames of 512 × 704 pixels


class LTXVideo(Stacked):
    """diffusers' LTXVideoTransformer3DModel."""

    name = "ltx"
    classes = ("LTXVideoTransformer3DModel",)
    recipes = (LTX,)
    default_steps = 50
    default_guidance = 3.0
    stacked = (Blocks("transformer_blocks", BLOCK),)
    halves = UNCOND_COND
    notes = CROSS_NOTES

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, tokens, _ = arguments["hidden_states"].shape
        grid: Any = tuple(arguments.get(name) for name in ("num_frames", "height", "width"))
        if None in grid or math.prod(grid) != tokens:  # frames that are given, and joined to the stream
            grid = None
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, {"image": tokens}, grid, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, {"image": math.prod(_USUAL_GRID)}, _USUAL_GRID, context=_TEXT)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # with given frames every token has a time of its own
        return bool(arguments["timestep"].numel() == arguments["hidden_states"].shape[0])
