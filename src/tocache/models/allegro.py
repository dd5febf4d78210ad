"""Allegro (Rhymes AI, arXiv 2410.15458): self-attention, attention to the text, and MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.engine.wiring import Guidance
from tocache.models.base import in_one_batch, itemsize_of, unpublished
from tocache.models.separable import Module, Separable
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, UNCOND_COND, Pass

ALLEGRO = unpublished("allegro", CROSS_ATTENTION, MLP)

_TEXT = 512


class Allegro(Separable):
    """diffusers' AllegroTransformer3DModel."""

    name = "allegro"
    classes = ("AllegroTransformer3DModel",)
    recipes = (ALLEGRO,)
    default_steps = 100
    default_guidance = 7.5
    attention = Module("attn1", "norm1")
    cross = Module("attn2")  # it reads the token stream itself
    mlp = Module("ff", "norm2")

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        grid, text = _grid(transformer, latent), arguments["encoder_hidden_states"].shape[-2]
        return Pass(rows, {"image": math.prod(grid)}, grid, itemsize=itemsize_of(transformer), context=text)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        config = transformer.config
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        grid = _grid(transformer, (config.sample_frames, config.sample_height, config.sample_width))
        return Pass(rows, {"image": math.prod(grid)}, grid, halves, itemsize=itemsize, context=_TEXT)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)


def _grid(transformer: Any, latent: Any) -> tuple[int, ...]:
    patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t
    return tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))
