"""Z-Image (Tongyi-MAI, arXiv 2511.22699): image and text are refined apart, then pass the same blocks in one stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tocache.engine.wiring import Guidance
from tocache.models.base import itemsize_of, present_tokens, unpublished
from tocache.models.double_stream import image_first_tokens
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import COND_UNCOND, IMAGE_FIRST, MLP, Pass

Z_IMAGE = unpublished("z-image", MLP)
PARTS = (Module("attention", "attention_norm1"), Module("feed_forward", "ffn_norm1"))

_MULTIPLE = 32  # of which the model makes the number of tokens of each picture and each text, with a token of its own


class ZImage(Stacked):
    """diffusers' ZImageTransformer2DModel."""

    name = "z-image"
    classes = ("ZImageTransformer2DModel",)
    recipes = (Z_IMAGE,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (
        Blocks("noise_refiner", Separable(*PARTS), ("x",)),
        Blocks("context_refiner", Separable(*PARTS, group="text", padded=True), ("x",)),
        Blocks("layers", Separable(*PARTS, group=IMAGE_FIRST, counted="image"), ("x",)),
    )
    halves = COND_UNCOND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        grid, texts = _grid(arguments), _texts(arguments)
        tokens = image_first_tokens(_filled(math.prod(grid)), max(texts))
        # tokens that fill up the picture's make it no grid
        whole = grid[1:] if grid[0] == 1 and math.prod(grid) == tokens["image"] else None
        return Pass(len(texts), tokens, whole, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        texts = _texts(arguments)
        if min(texts) == max(texts):
            return {}
        image = _filled(math.prod(_grid(arguments)))
        device = arguments["x"][0].device
        return {IMAGE_FIRST: present_tokens([image + text for text in texts], image + max(texts), device)}

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(64 * 64, 2 * _MULTIPLE), (64, 64))

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        scale = arguments.get("guidance_scale") or 0.0
        return Guidance((("batch", self.halves),)) if scale > 0 else Guidance()  # it counts from 0, not from 1


def _grid(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """Frames, height and width in tokens; all latents of a call, (channels, frames, height, width), are of one size."""
    patch, patch_t = arguments.get("patch_size", 2), arguments.get("f_patch_size", 1)
    latent = arguments["x"][0].shape[1:]
    return tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))


def _texts(arguments: Mapping[str, Any]) -> list[int]:
    return [_filled(len(text)) for text in arguments["cap_feats"]]


def _filled(tokens: int) -> int:
    return -(-tokens // _MULTIPLE) * _MULTIPLE
