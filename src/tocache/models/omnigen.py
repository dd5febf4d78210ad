"""OmniGen (Xiao et al., arXiv 2409.11340): a language model's blocks, on text, time and picture in one stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tocache.engine.wiring import Guidance
from tocache.models.base import itemsize_of, patched, unpublished
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import COND_UNCOND, JOINT, MLP, Pass

OMNIGEN = unpublished("omnigen", MLP)
PARTS = (Module("self_attn", "input_layernorm"), Module("mlp", "post_attention_layernorm"))

_TEXT = 256


class OmniGen(Stacked):
    """diffusers' OmniGenTransformer2DModel.

    Its text, in which there may be pictures, is padded at its beginning, and followed by one token for the time.
    """

    name = "omnigen"
    classes = ("OmniGenTransformer2DModel",)
    recipes = (OMNIGEN,)
    default_steps = 50
    default_guidance = 2.5
    stacked = (Blocks("layers", Separable(*PARTS, group=JOINT, counted="image")),)
    halves = COND_UNCOND
    notes = ("norms are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text, image = _text(arguments), grid[0] * grid[1]
        return Pass(rows, _tokens(text, image), grid, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        # the last token, which is the picture's, attends to all that is no padding
        there = arguments["attention_mask"][:, -1] > 0
        return {} if bool(there.all()) else {JOINT: there}

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, _tokens(_TEXT, 64 * 64), (64, 64))

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        """Its scale switches nothing off; with pictures in the text there are three thirds, which are no halves."""
        return Guidance((("batch", self.halves if arguments.get("input_images") is None else None),))


def _text(arguments: Mapping[str, Any]) -> int:
    return 1 + (0 if arguments.get("input_ids") is None else int(arguments["input_ids"].shape[1]))


def _tokens(text: int, image: int) -> dict[str, int]:
    return {"image": image, "text": text, JOINT: text + image}
