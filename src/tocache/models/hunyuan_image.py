"""HunyuanImage 2.1 (Tencent): HunyuanVideo's blocks, over a picture, its prompt and the letters to be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tocache.engine.wiring import Guidance
from tocache.models.base import by_guider, itemsize_of, unpublished
from tocache.models.double_stream import image_first_tokens
from tocache.models.hunyuan_video import STACKS, present_behind
from tocache.models.stacked import Stacked
from tocache.plan.anatomy import MLP, PARALLEL, Pass

HUNYUAN_IMAGE = unpublished("hunyuan-image", MLP, PARALLEL)

_TEXT = 1000 + 128


class HunyuanImage(Stacked):
    """diffusers' HunyuanImageTransformer2DModel, also that of the refiner, which has frames."""

    name = "hunyuan-image"
    classes = ("HunyuanImageTransformer2DModel",)
    recipes = (HUNYUAN_IMAGE,)
    default_steps = 50
    default_guidance = 3.5
    stacked = STACKS
    notes = ("norms, modulation and the refiner of the text are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        grid, masks = _grid(transformer, arguments), _masks(transformer, arguments)
        tokens = image_first_tokens(math.prod(grid), sum(mask.shape[1] for mask in masks))
        return Pass(arguments["hidden_states"].shape[0], tokens, grid, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        return present_behind(math.prod(_grid(transformer, arguments)), *_masks(transformer, arguments))

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(64 * 64, _TEXT), (64, 64))

    def guides_in_two_passes(self, transformer: Any) -> bool:
        return not transformer.config.guidance_embeds  # a distilled one has no guider

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return by_guider(pipeline)


def _grid(transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    sides = arguments["hidden_states"].shape[2:]
    return tuple(side // patch for side, patch in zip(sides, transformer.config.patch_size, strict=True))


def _masks(transformer: Any, arguments: Mapping[str, Any]) -> list[torch.Tensor]:
    """Which tokens are no padding, of the prompt, and of the letters where the model reads them."""
    masks = [arguments["encoder_attention_mask"]]
    if transformer.context_embedder_2 is not None and arguments.get("encoder_hidden_states_2") is not None:
        masks.append(arguments["encoder_attention_mask_2"])
    return masks
