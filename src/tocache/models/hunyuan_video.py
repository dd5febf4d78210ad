"""HunyuanVideo (Tencent, arXiv 2412.03603): FLUX's two kinds of blocks, with the video before the text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Fused, Guidance, Layer, Stack
from tocache.models.base import ModelFamily, itemsize_of, unpublished, width_of
from tocache.models.costs import OWN, attention_cost, token_cost
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.plan.anatomy import MLP, PARALLEL, SELF_ATTENTION, Anatomy, Cost, Pass, Site
from tocache.plan.recipe import Recipe

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
BLOCK = DoubleStream(keys=("image", "text"))
IMAGE_FIRST = "image, text"  # the tokens of a single-stream block; in "joint" streams the text stands first

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

    def recipe(self, steps: int) -> Recipe:
        return HUNYUAN_VIDEO

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            layers += BLOCK.layers(f"{DOUBLE}.{b}")
        for b in range(len(transformer.single_transformer_blocks)):
            path = f"{SINGLE}.{b}"
            layers.append(
                Fused(
                    attention_site=f"{path}.attn",
                    site=path,
                    norm=f"{path}.norm",
                    mlp_in=f"{path}.proj_mlp",
                    attention=f"{path}.attn",
                    mlp_out=f"{path}.proj_out",
                    group=IMAGE_FIRST,
                    outputs=("image", "text"),
                )
            )
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
        scale = arguments.get("true_cfg_scale")
        negative = ("negative_prompt", "negative_prompt_embeds")
        if scale is not None and scale > 1 and any(arguments.get(name) is not None for name in negative):
            return Guidance((("cond", None), ("uncond", None)))
        return Guidance((("cond", None),))

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        double, single = transformer.transformer_blocks, transformer.single_transformer_blocks
        sites: list[Site] = []
        costs: list[Cost] = []
        for b, block in enumerate(double):
            place = {"stack": DOUBLE, "block": b, "depth": len(double), "width": width_of(transformer)}
            sites += BLOCK.sites(f"{DOUBLE}.{b}", place)
            costs += BLOCK.costs(block, shape)
        rows, joint = shape.rows, shape.tokens[IMAGE_FIRST]
        for b, block in enumerate(single):
            path = f"{SINGLE}.{b}"
            fused: dict[str, Any] = {"group": IMAGE_FIRST, "stack": SINGLE, "block": b, "depth": len(single)}
            fused["width"] = width_of(transformer)
            sites.append(Site(f"{path}.attn", SELF_ATTENTION, **fused, rows=False))
            inside = (f"{path}.attn",)
            sites.append(Site(path, PARALLEL, **fused, rows=True, self_map=f"{path}.attn", inside=inside))
            costs.append(attention_cost(block.attn, rows, joint, joint, OWN[:3]))
            costs.append(token_cost(rows, joint, block.proj_mlp, block.proj_out))
        notes = ("norms, modulation and the refiner of the text are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)


def _tokens(image: int, text: int) -> dict[str, int]:
    return joint_tokens(image, text) | {IMAGE_FIRST: image + text}
