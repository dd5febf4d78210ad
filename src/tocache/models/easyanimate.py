"""EasyAnimate 5.1 (Alibaba PAI, arXiv 2405.18991): double-stream blocks whose norms take both streams at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.engine.wiring import Layer, Shared, TokenWise
from tocache.models.base import itemsize_of, unpublished
from tocache.models.costs import OWN
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, UNCOND_COND, Pass

EASYANIMATE = unpublished("easyanimate", MLP)

_TEXT = 256
_USUAL_GRID = (13, 32, 32)  # 49 frames of 512 × 512 pixels


@dataclass(frozen=True)
class OneNorm(DoubleStream):
    """Such a block with one norm before both MLPs: it gets the image's fresh tokens, and the text as it is."""

    def layers(self, path: str) -> list[Layer]:
        """Those of the block at `path`."""
        attention, *_ = super().layers(path)
        (image, text), norm = self._mlp_sites(path), f"{path}.norm2"
        if self._is_shared():
            return [attention, Shared((image, text), f"{path}.{self.mlps[0]}", (norm,))]
        return [attention, TokenWise(image, image, norm), TokenWise(text, text)]


BLOCK = OneNorm(norms=("norm1",), mlps=("ff", "txt_ff"), attention="attn1")
# of some models the deeper blocks have one set of weights for both streams, and project the image's attention alone
SHARED_BLOCK = OneNorm(norms=("norm1",), mlps=("ff", "ff"), attention="attn1", added=OWN[:3])


class EasyAnimate(Stacked):
    """diffusers' EasyAnimateTransformer3DModel."""

    name = "easyanimate"
    classes = ("EasyAnimateTransformer3DModel",)
    recipes = (EASYANIMATE,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (Blocks("transformer_blocks", BLOCK, ("hidden_states", "encoder_hidden_states")),)
    halves = UNCOND_COND

    def kind(self, blocks: Blocks, block: Any) -> DoubleStream:
        return SHARED_BLOCK if block.txt_ff is None else BLOCK

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, frames, height, width = arguments["hidden_states"].shape
        patch = transformer.config.patch_size
        grid = (frames, height // patch, width // patch)
        texts = (arguments.get(name) for name in ("encoder_hidden_states", "encoder_hidden_states_t5"))
        # padding is attended to as any other token
        text = sum(text.shape[1] for text in texts if text is not None)
        return Pass(rows, joint_tokens(math.prod(grid), text), grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(math.prod(_USUAL_GRID), _TEXT), _USUAL_GRID)
