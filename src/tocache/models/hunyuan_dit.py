"""Hunyuan-DiT (Li et al., arXiv 2405.08748): attention to both of its texts rotates the queries by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocache.models.base import itemsize_of, patched, unpublished
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, UNCOND_COND, Anatomy, Pass

HUNYUAN_DIT = unpublished("hunyuan-dit", MLP)
BLOCK = Separable(Module("attn1", "norm1"), Module("ff", "norm3"), cross=Module("attn2", "norm2"), rotated=True)


class HunyuanDiT(Stacked):
    """diffusers' HunyuanDiT2DModel."""

    name = "hunyuan-dit"
    classes = ("HunyuanDiT2DModel",)
    recipes = (HUNYUAN_DIT,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (Blocks("blocks", BLOCK),)
    halves = UNCOND_COND
    notes = ("norms, modulation and skip connections are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text = sum(arguments[f"encoder_hidden_states{which}"].shape[1] for which in ("", "_t5"))
        return Pass(rows, {"image": grid[0] * grid[1]}, grid, itemsize=itemsize_of(transformer), context=text)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        depth = len(transformer.blocks)
        long = tuple((b, depth - 1 - b) for b in range(depth // 2 - 1))
        return replace(super().anatomy(transformer, shape), skips={"blocks": long})

    def usual(self, transformer: Any) -> Pass:
        config = transformer.config
        side = config.sample_size // config.patch_size
        return Pass(1, {"image": side * side}, (side, side), context=config.text_len + config.text_len_t5)
