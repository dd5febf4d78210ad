"""HunyuanVideo 1.5 (Tencent, arXiv 2511.18870): double-stream blocks alone, over a video and three kinds of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.engine.wiring import Guidance
from tocache.models.base import by_guider, itemsize_of, unpublished
from tocache.models.double_stream import joint_tokens
from tocache.models.hunyuan_video import BLOCK, STREAMS, video_grid
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, Pass

HUNYUAN_VIDEO15 = unpublished("hunyuan-video-1.5", MLP)

# a prompt's tokens, the letters to be drawn, and a picture, which is all padding where none is given
_TEXT = 1000 + 256 + 729
_USUAL_GRID = (31, 30, 53)  # 121 frames of 480 × 848 pixels


class HunyuanVideo15(Stacked):
    """diffusers' HunyuanVideo15Transformer3DModel."""

    name = "hunyuan-video-1.5"
    classes = ("HunyuanVideo15Transformer3DModel",)
    recipes = (HUNYUAN_VIDEO15,)
    default_steps = 50
    default_guidance = 6.0
    stacked = (Blocks("transformer_blocks", BLOCK, STREAMS),)
    notes = ("norms, modulation and the refiner of the text are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = video_grid(transformer, arguments)
        parts = ("encoder_hidden_states", "encoder_hidden_states_2", "image_embeds")
        text = sum(arguments[part].shape[1] for part in parts)
        return Pass(rows, joint_tokens(math.prod(grid), text), grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(math.prod(_USUAL_GRID), _TEXT), _USUAL_GRID)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return by_guider(pipeline)
