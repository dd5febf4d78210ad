"""CogVideoX (Yang et al., arXiv 2408.06072): text and video attend together and share one MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.double_stream import joint_tokens
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, UNCOND_COND, Pass

COGVIDEOX = unpublished("cogvideox", MLP)
# norm2 gives both streams, and the MLP reads them joined
BLOCK = Separable(Module("attn1", "norm1"), Module("ff"), group="joint", outputs=("image", "text"))


class CogVideoX(Stacked):
    """diffusers' CogVideoXTransformer3DModel, and ConsisIDTransformer3DModel with its attention to a face."""

    name = "cogvideox"
    classes = ("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel")
    recipes = (COGVIDEOX,)
    default_steps = 50
    default_guidance = 6.0
    stacked = (Blocks("transformer_blocks", BLOCK, ("hidden_states", "encoder_hidden_states")),)
    halves = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, frames, _, height, width = arguments["hidden_states"].shape
        grid = _grid(transformer, frames, height, width)
        tokens = joint_tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def usual(self, transformer: Any) -> Pass:
        config = transformer.config
        frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
        grid = _grid(transformer, frames, config.sample_height, config.sample_width)
        return Pass(1, joint_tokens(math.prod(grid), config.max_text_seq_length), grid)


def _grid(transformer: Any, frames: int, height: int, width: int) -> tuple[int, int, int]:
    patch, patch_t = transformer.config.patch_size, transformer.config.get("patch_size_t") or 1  # ConsisID has none
    return -(-frames // patch_t), height // patch, width // patch
