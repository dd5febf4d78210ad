"""CogView3-Plus (Zheng et al., arXiv 2403.05121) and CogView4: text and image attend together and share one MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tocache.models.base import itemsize_of, patched, unpublished
from tocache.models.costs import OWN
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import JOINT, MLP, UNCOND_COND, Pass

STREAMS = ("hidden_states", "encoder_hidden_states")
# norm2 gives the image alone, and the MLP reads both joined
JOINED = Separable(Module("attn1", "norm1"), Module("ff"), group=JOINT, outputs=("image", "text"))
# the MLP is called twice, for the image and for the text
TWICE = DoubleStream(norms=("norm1",), mlps=("ff", "ff"), attention="attn1", added=OWN)


class CogView3(Stacked):
    """diffusers' CogView3PlusTransformer2DModel."""

    name = "cogview3"
    classes = ("CogView3PlusTransformer2DModel",)
    recipes = (unpublished("cogview3", MLP),)
    default_steps = 50
    default_guidance = 5.0
    stacked = (Blocks("transformer_blocks", JOINED, STREAMS),)
    halves: ClassVar[str | None] = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        tokens = joint_tokens(grid[0] * grid[1], arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        return Pass(1, joint_tokens(side * side, 224), (side, side))


class CogView4(CogView3):
    """diffusers' CogView4Transformer2DModel."""

    name = "cogview4"
    classes = ("CogView4Transformer2DModel",)
    recipes = (unpublished("cogview4", MLP),)
    stacked = (Blocks("transformer_blocks", TWICE, STREAMS),)
    halves = None
