"""Kandinsky 5.0 (Kandinsky Lab, arXiv 2511.14993): the text passes blocks of its own, which the others attend to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, Pass

KANDINSKY5 = unpublished("kandinsky5", CROSS_ATTENTION, MLP)
PARTS = (Module("self_attention", "self_attention_norm"), Module("feed_forward", "feed_forward_norm"))
NAMES = ("to_query", "to_key", "to_value", "out_layer")
TEXT = Separable(*PARTS, group="text", padded=True, projections=NAMES)
VISUAL = Separable(*PARTS, cross=Module("cross_attention", "cross_attention_norm"), projections=NAMES)

_TEXT = 256
_USUAL_GRID = (31, 32, 48)  # 121 frames of 512 × 768 pixels


class Kandinsky5(Stacked):
    """diffusers' Kandinsky5Transformer3DModel, for pictures and videos."""

    name = "kandinsky5"
    classes = ("Kandinsky5Transformer3DModel",)
    recipes = (KANDINSKY5,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (
        Blocks("text_transformer_blocks", TEXT, ("x",)),
        Blocks("visual_transformer_blocks", VISUAL, ("visual_embed",)),
    )
    notes = (*CROSS_NOTES, "attention is counted to all tokens, also where a model for long videos leaves most out")

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, *latent, _ = arguments["hidden_states"].shape
        grid = tuple(side // patch for side, patch in zip(latent, transformer.config.patch_size, strict=True))
        text = arguments["encoder_hidden_states"].shape[1]
        # for sparse attention the tokens stand in squares, one behind the other
        whole = grid if arguments.get("sparse_params") is None else None
        tokens = {"image": math.prod(grid), "text": text}
        return Pass(rows, tokens, whole, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, {"image": math.prod(_USUAL_GRID), "text": _TEXT}, _USUAL_GRID, context=_TEXT)
