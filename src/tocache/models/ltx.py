"""LTX-Video (Lightricks, arXiv 2501.00103): self-attention, attention to the text, and MLP, on packed latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.engine.wiring import Guidance
from tocache.models.base import in_one_batch, itemsize_of, unpublished
from tocache.models.separable import Module, Separable
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, UNCOND_COND, Pass

LTX = unpublished("ltx", CROSS_ATTENTION, MLP)

_TEXT = 128
_USUAL_GRID = (21, 16, 22)  # 161 frames of 512 × 704 pixels


class LTXVideo(Separable):
    """diffusers' LTXVideoTransformer3DModel."""

    name = "ltx"
    classes = ("LTXVideoTransformer3DModel",)
    recipes = (LTX,)
    default_steps = 50
    default_guidance = 3.0
    attention = Module("attn1", "norm1")
    cross = Module("attn2")  # it reads the token stream itself
    mlp = Module("ff", "norm2")

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, tokens, _ = arguments["hidden_states"].shape
        grid: Any = tuple(arguments.get(name) for name in ("num_frames", "height", "width"))
        if None in grid or math.prod(grid) != tokens:  # frames that are given, and joined to the stream
            grid = None
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, {"image": tokens}, grid, itemsize=itemsize_of(transformer), context=text)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        tokens = {"image": math.prod(_USUAL_GRID)}
        return Pass(rows, tokens, _USUAL_GRID, halves, itemsize=itemsize, context=_TEXT)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # with given frames every token has a time of its own
        return bool(arguments["timestep"].numel() == arguments["hidden_states"].shape[0])

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)
