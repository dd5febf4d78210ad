"""CogVideoX (Yang et al., arXiv 2408.06072): text and video attend together and share one MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Attention, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, unpublished, width_of
from tocache.models.costs import attention_cost, token_cost
from tocache.models.double_stream import joint_tokens
from tocache.plan.anatomy import MLP, SELF_ATTENTION, UNCOND_COND, Anatomy, Cost, Pass, Site

STACK = "transformer_blocks"

COGVIDEOX = unpublished("cogvideox", MLP)


class CogVideoX(ModelFamily):
    """diffusers' CogVideoXTransformer3DModel."""

    name = "cogvideox"
    classes = ("CogVideoXTransformer3DModel",)
    recipes = (COGVIDEOX,)
    default_steps = 50
    default_guidance = 6.0

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            path = f"{STACK}.{b}"
            attention = f"{path}.attn1"
            layers.append(Attention((attention,), attention, (f"{path}.norm1",), ("joint",), outputs=("image", "text")))
            # norm2 gives both streams, and the MLP reads them joined
            layers.append(TokenWise(f"{path}.ff", f"{path}.ff"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(STACK, ("hidden_states", "encoder_hidden_states")),)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, frames, _, height, width = arguments["hidden_states"].shape
        grid = _grid(transformer, frames, height, width)
        tokens = joint_tokens(math.prod(grid), arguments["encoder_hidden_states"].shape[1])
        return Pass(rows, tokens, grid, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        config = transformer.config
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
        grid = _grid(transformer, frames, config.sample_height, config.sample_width)
        tokens = joint_tokens(math.prod(grid), config.max_text_seq_length)
        return Pass(rows, tokens, grid, halves, itemsize=itemsize)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        blocks = transformer.transformer_blocks
        sites: list[Site] = []
        costs: list[Cost] = []
        rows, joint = shape.rows, shape.tokens["joint"]
        for b, block in enumerate(blocks):
            path = f"{STACK}.{b}"
            place: dict[str, Any] = {"group": "joint", "stack": STACK, "block": b, "depth": len(blocks)}
            place["width"] = width_of(transformer)
            sites.append(Site(f"{path}.attn1", SELF_ATTENTION, **place, rows=False))
            sites.append(Site(f"{path}.ff", MLP, **place, rows=True, self_map=f"{path}.attn1"))
            costs += [attention_cost(block.attn1, rows, joint, joint), token_cost(rows, joint, block.ff)]
        notes = ("norms and modulation are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)


def _grid(transformer: Any, frames: int, height: int, width: int) -> tuple[int, int, int]:
    patch, patch_t = transformer.config.patch_size, transformer.config.patch_size_t or 1
    return -(-frames // patch_t), height // patch, width // patch
