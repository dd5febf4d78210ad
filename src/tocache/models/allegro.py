"""Allegro (Rhymes AI, arXiv 2410.15458): self-attention, attention to the text, and MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, UNCOND_COND, Pass

ALLEGRO = unpublished("allegro", CROSS_ATTENTION, MLP)
# attention to the text reads the token stream itself
BLOCK = Separable(Module("attn1", "norm1"), Module("ff", "norm2"), cross=Module("attn2"))

_TEXT = 512


class Allegro(Stacked):
    """diffusers' AllegroTransformer3DModel."""

    name = "allegro"
    classes = ("AllegroTransformer3DModel",)
    recipes = (ALLEGRO,)
    default_steps = 100
    default_guidance = 7.5
    stacked = (Blocks("transformer_blocks", BLOCK),)
    halves = UNCOND_COND
    notes = CROSS_NOTES

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        grid, text = _grid(transformer, latent), arguments["encoder_hidden_states"].shape[-2]
        return Pass(rows, {"image": math.prod(grid)}, grid, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        config = transformer.config
        grid = _grid(transformer, (config.sample_frames, config.sample_height, config.sample_width))
        return Pass(1, {"image": math.prod(grid)}, grid, context=_TEXT)


def _grid(transformer: Any, latent: Any) -> tuple[int, ...]:
    patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t
    return tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))
