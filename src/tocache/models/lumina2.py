"""Lumina-Image 2.0 (Qin et al., arXiv 2503.21758): text and image are refined apart, then pass the same blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tocache.models.base import itemsize_of, patched, present_tokens, unpublished
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import JOINT, MLP, Pass

LUMINA2 = unpublished("lumina2", MLP)
PARTS = (Module("attn", "norm1"), Module("feed_forward", "ffn_norm1"))

_TEXT = 256


class Lumina2(Stacked):
    """diffusers' Lumina2Transformer2DModel.

    It cuts the padding off its texts before they join the stream, which is as long as the longest of them asks for: the
    lengths are read off the mask, as the model itself does in every forward.
    """

    name = "lumina2"
    classes = ("Lumina2Transformer2DModel",)
    recipes = (LUMINA2,)
    default_steps = 30
    default_guidance = 4.0
    stacked = (
        Blocks("context_refiner", Separable(*PARTS, group="text", padded=True)),
        Blocks("noise_refiner", Separable(*PARTS)),
        Blocks("layers", Separable(*PARTS, group=JOINT, counted="image")),
    )

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        image, texts = grid[0] * grid[1], _texts(arguments)
        tokens = {"image": image, "text": arguments["encoder_hidden_states"].shape[1], JOINT: image + max(texts)}
        # behind texts of different lengths the image begins at another token in each row
        return Pass(rows, tokens, grid if min(texts) == max(texts) else None, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        texts = _texts(arguments)
        if min(texts) == max(texts):
            return {}
        grid = patched(transformer, arguments["hidden_states"])[1]
        lengths = [grid[0] * grid[1] + text for text in texts]
        return {JOINT: present_tokens(lengths, max(lengths), arguments["hidden_states"].device)}

    def usual(self, transformer: Any) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        return Pass(1, {"image": side * side, "text": _TEXT, JOINT: side * side + _TEXT}, (side, side))


def _texts(arguments: Mapping[str, Any]) -> list[int]:
    """How many tokens of each row's text are no padding."""
    lengths: list[int] = arguments["encoder_attention_mask"].sum(dim=1).tolist()
    return lengths
