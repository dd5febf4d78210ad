"""Wan 2.1 and 2.2 (Wan Team, arXiv 2503.20314) and SkyReels-V2 (arXiv 2504.13074), which is built alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, Pass

WAN = unpublished("wan", CROSS_ATTENTION, MLP)
BLOCK = Separable(Module("attn1", "norm1"), Module("ffn", "norm3"), cross=Module("attn2", "norm2"))

_TEXT = 512
_USUAL_GRID = (21, 30, 52)  # 81 frames of 480 × 832 pixels
_USUAL_GRID_5B = (31, 22, 40)  # 121 frames of 704 × 1280 pixels, which its autoencoder compresses four times as far


class Wan(Stacked):
    """diffusers' WanTransformer3DModel and SkyReelsV2Transformer3DModel.

    Two of the former, one for high noise and one for low, make up Wan 2.2 A14B.
    """

    name = "wan"
    classes = ("WanTransformer3DModel", "SkyReelsV2Transformer3DModel")
    recipes = (WAN,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (Blocks("blocks", BLOCK),)
    notes = CROSS_NOTES

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        grid = tuple(side // patch for side, patch in zip(latent, transformer.config.patch_size, strict=True))
        text = arguments["encoder_hidden_states"].shape[1]
        if (picture := arguments.get("encoder_hidden_states_image")) is not None:
            text += picture.shape[1] * picture.shape[0] // rows  # first and last frame stand one below the other
        return Pass(rows, {"image": math.prod(grid)}, grid, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        grid = _USUAL_GRID_5B if transformer.config.in_channels == 48 else _USUAL_GRID
        return Pass(1, {"image": math.prod(grid)}, grid, context=_TEXT)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # Wan 2.2 TI2V tells every token a time of its own, for a first frame that is given; SkyReels-V2 every frame
        return bool(arguments["timestep"].ndim < 2)
