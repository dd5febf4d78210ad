"""Latte (Ma et al., arXiv 2401.03048): blocks on frames and blocks through time take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, TEMPORAL_ATTENTION, UNCOND_COND, Pass

LATTE = unpublished("latte", CROSS_ATTENTION, MLP)
PLACES, FRAMES = "places", "frames"
# attention to the text reads the token stream itself
ON_FRAMES = Separable(Module("attn1", "norm1"), Module("ff", "norm2"), cross=Module("attn2"))
# every place of a frame is a row there, which no choice of tokens fits: all is computed or served
THROUGH_TIME = Separable(
    Module("attn1", "norm1"), Module("ff", "norm2"), group=PLACES, padded=True, over=FRAMES, kind=TEMPORAL_ATTENTION
)

_TEXT = 120


class Latte(Stacked):
    """diffusers' LatteTransformer3DModel, in which every frame is a row of the batch."""

    name = "latte"
    classes = ("LatteTransformer3DModel",)
    recipes = (LATTE,)
    default_steps = 50
    default_guidance = 7.5
    stacked = (Blocks("transformer_blocks", ON_FRAMES), Blocks("temporal_transformer_blocks", THROUGH_TIME))
    in_turns = True
    halves = UNCOND_COND
    notes = CROSS_NOTES

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, frames, height, width = arguments["hidden_states"].shape
        shape = _video(transformer, frames, height, width, arguments["encoder_hidden_states"].shape[1])
        return replace(shape, rows=rows * frames, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        shape = super().default_pass(transformer, pictures=pictures, guided=guided, itemsize=itemsize)
        return replace(shape, rows=shape.rows * transformer.config.video_length)

    def usual(self, transformer: Any) -> Pass:
        config = transformer.config
        return _video(transformer, config.video_length, config.sample_size, config.sample_size, _TEXT)


def _video(transformer: Any, frames: int, height: int, width: int, text: int) -> Pass:
    """One frame of a video with latents of this size, in which attention through time has `frames` keys."""
    patch = transformer.config.patch_size
    grid = (height // patch, width // patch)
    tokens = {"image": grid[0] * grid[1], PLACES: grid[0] * grid[1], FRAMES: frames}
    return Pass(1, tokens, grid, context=text)
