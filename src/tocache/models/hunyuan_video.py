"""HunyuanVideo (Tencent, arXiv 2412.03603): FLUX's two kinds of blocks, with the video before the text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tocache.models.base import itemsize_of, present_tokens, unpublished
from tocache.models.double_stream import DoubleStream, image_first_tokens
from tocache.models.single_stream import SingleStream
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import IMAGE_FIRST, MLP, PARALLEL, Pass

# texts are padded to one length, and most of it is padding
BLOCK = DoubleStream(keys=("image", "text"), padded=True)
SINGLE_BLOCK = SingleStream(IMAGE_FIRST, outputs=("image", "text"), counted="image")
STREAMS = ("hidden_states", "encoder_hidden_states")
STACKS = (
    Blocks("transformer_blocks", BLOCK, STREAMS),
    Blocks("single_transformer_blocks", SINGLE_BLOCK, STREAMS),
)

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
    stacked = STACKS
    scale = "true_cfg_scale"
    notes = ("norms, modulation and the refiner of the text are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = video_grid(transformer, arguments)
        tokens = image_first_tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        return present_behind(math.prod(video_grid(transformer, arguments)[1]), arguments["encoder_attention_mask"])

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(math.prod(_USUAL_GRID), _TEXT), _USUAL_GRID)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # a first frame that is given has a time of its own
        return bool(transformer.config.image_condition_type != "token_replace")


def video_grid(transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """Rows, and the tokens that the patches of the latents (rows, channels, frames, height, width) make."""
    rows, _, *latent = arguments["hidden_states"].shape
    patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t
    return rows, tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))


def present_behind(image: int, *masks: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """What is no padding in a stream of `image` tokens and behind them texts with these masks (rows, tokens).

    The tokens of a text that are no padding come first, and where there are several texts, those of all.
    """
    texts = sum(mask.shape[1] for mask in masks)
    counts = [mask.sum(dim=1, dtype=torch.int64) for mask in masks]  # one for each row
    lengths: list[int] = torch.stack(counts).sum(dim=0).tolist()
    if min(lengths) == texts:
        return {}
    return {IMAGE_FIRST: present_tokens([image + text for text in lengths], image + texts, masks[0].device)}
