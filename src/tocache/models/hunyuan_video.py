"""HunyuanVideo (Tencent, arXiv 2412.03603): FLUX's two kinds of blocks, with the video before the text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Guidance, Layer, Stack
from tocache.models.base import ModelFamily, in_two_passes, itemsize_of, unpublished, width_of
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.models.single_stream import SingleStream
from tocache.plan.anatomy import MLP, PARALLEL, Anatomy, Cost, Pass, Site

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
BLOCK = DoubleStream(keys=("image", "text"))
IMAGE_FIRST = "image, text"  # the tokens of a single-stream block; in "joint" streams the text stands first
SINGLE_BLOCK = SingleStream(IMAGE_FIRST, outputs=("image", "text"))

HUNYUAN_VIDEO = unpublished("hunyuan-video", MLP, PARALLEL)

_TEXT = 256
_USUAL_GRID = (33, 45, 80)  # 129 frames of 720 × 1280 pixels


class HunyuanVideo(ModelFamily):
    """diffusers' HunyuanVideoTransformer3DModel."""

    name = "hunyuan-video"
    classes = ("HunyuanVideoTransformer3DModel",)
    recipes = (HUNYUAN_VIDEO,)
    default_steps = 50
    default_guidance = 6.0

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            layers += BLOCK.layers(f"{DOUBLE}.{b}")
        for b in range(len(transformer.single_transformer_blocks)):
            layers.append(SINGLE_BLOCK.layer(f"{SINGLE}.{b}"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        streams = ("hidden_states", "encoder_hidden_states")
        return Stack(DOUBLE, streams), Stack(SINGLE, streams)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t
        grid = tuple(side // size for side, size in zip(latent, (patch_t, patch, patch), strict=True))
        tokens = _tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        return Pass(pictures, _tokens(math.prod(_USUAL_GRID), _TEXT), _USUAL_GRID, itemsize=itemsize)

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # a first frame that is given has a time of its own
        return bool(transformer.config.image_condition_type != "token_replace")

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_two_passes(arguments, "true_cfg_scale")

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        double, single = transformer.transformer_blocks, transformer.single_transformer_blocks
        sites: list[Site] = []
        costs: list[Cost] = []
        for b, block in enumerate(double):
            place = {"stack": DOUBLE, "block": b, "depth": len(double), "width": width_of(transformer)}
            sites += BLOCK.sites(f"{DOUBLE}.{b}", place)
            costs += BLOCK.costs(block, shape)
        for b, block in enumerate(single):
            place = {"stack": SINGLE, "block": b, "depth": len(single), "width": width_of(transformer)}
            sites += SINGLE_BLOCK.sites(f"{SINGLE}.{b}", place)
            costs += SINGLE_BLOCK.costs(block, shape)
        notes = ("norms, modulation and the refiner of the text are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)


def _tokens(image: int, text: int) -> dict[str, int]:
    return joint_tokens(image, text) | {IMAGE_FIRST: image + text}
