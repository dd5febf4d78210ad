"""HunyuanVideo (Tencent, arXiv 2412.03603): FLUX's two kinds of blocks, with the video before the text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.double_stream import DoubleStream, image_first_tokens
from tocache.models.single_stream import SingleStream
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import IMAGE_FIRST, MLP, PARALLEL, Pass

BLOCK = DoubleStream(keys=("image", "text"))
SINGLE_BLOCK = SingleStream(IMAGE_FIRST, outputs=("image", "text"))
STREAMS = ("hidden_states", "encoder_hidden_states")

HUNYUAN_VIDEO = unpublished("hunyuan-video", MLP, PARALLEL)

_TEXT = 256
_USUAL_GRID = (33, 45, 80)  # 129 frames of 720 × 1280 pixels


class HunyuanVideo(Stacked):
    """diffusers' HunyuanVideoTransformer3DModel."""

    name = "hunyuan-video"
    classes = ("HunyuanVideoTransformer3DModel",)
    recipes = (HUNYUAN_VIDEO,)
    default_steps = 50
    default_guidance = 6.0
    stacked = (
        Blocks("transformer_blocks", BLOCK, STREAMS),
        Blocks("single_transformer_blocks", SINGLE_BLOCK, STREAMS),
    )
    scale = "true_cfg_scale"
    notes = ("norms, modulation and the refiner of the text are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t
        grid = tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))
        tokens = image_first_tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(math.prod(_USUAL_GRID), _TEXT), _USUAL_GRID)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # a first frame that is given has a time of its own
        return bool(transformer.config.image_condition_type != "token_replace")
