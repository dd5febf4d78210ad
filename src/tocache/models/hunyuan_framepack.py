"""HunyuanVideo FramePack (Zhang, Agrawala, arXiv 2504.12626): one section of a video behind what was drawn before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tocache.models.base import itemsize_of, unpublished
from tocache.models.double_stream import image_first_tokens
from tocache.models.hunyuan_video import STACKS, present_behind, video_grid
from tocache.models.stacked import Stacked
from tocache.plan.anatomy import MLP, PARALLEL, Pass

FRAMEPACK = unpublished("hunyuan-framepack", MLP, PARALLEL)

# the section, and before it the given picture, one, two and sixteen earlier frames, the older ones in larger patches
_IMAGE = 9 * 45 * 80 + 2 * 45 * 80 + 23 * 40 + 4 * 12 * 20
_TEXT = 729 + 256  # the given picture and the prompt

# which part of the embedder makes tokens of which earlier latents
_EARLIER = {"latents_clean": "proj", "latents_history_2x": "proj_2x", "latents_history_4x": "proj_4x"}


class HunyuanFramepack(Stacked):
    """diffusers' HunyuanVideoFramepackTransformer3DModel; each section of a video is a run."""

    name = "hunyuan-framepack"
    classes = ("HunyuanVideoFramepackTransformer3DModel",)
    recipes = (FRAMEPACK,)
    default_steps = 50
    default_guidance = 6.0
    stacked = STACKS
    scale = "true_cfg_scale"
    notes = ("norms, modulation and the refiner of the text are not counted",)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, mask = arguments["hidden_states"].shape[0], arguments["encoder_attention_mask"]
        # of a single text the model cuts the padding off, reading its length as we do
        text = int(mask.sum()) if rows == 1 else mask.shape[1]
        tokens = image_first_tokens(_image(transformer, arguments), arguments["image_embeds"].shape[1] + text)
        return Pass(rows, tokens, itemsize=itemsize_of(transformer))  # frames of several sizes are no grid

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        mask = arguments["encoder_attention_mask"]
        if mask.shape[0] == 1:
            return {}
        # the given picture stands before the text and has no padding
        return present_behind(_image(transformer, arguments) + arguments["image_embeds"].shape[1], mask)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(_IMAGE, _TEXT))


def _image(transformer: Any, arguments: Mapping[str, Any]) -> int:
    """Tokens of the section and of what comes before it."""
    tokens = math.prod(video_grid(transformer, arguments)[1])
    for name, part in _EARLIER.items():
        if (latents := arguments.get(name)) is not None:
            patch = getattr(transformer.clean_x_embedder, part).kernel_size
            tokens += math.prod(-(-side // size) for side, size in zip(latents.shape[2:], patch, strict=True))
    return tokens
