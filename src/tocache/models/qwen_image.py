"""Qwen-Image (Wu et al., arXiv 2508.02324): double-stream blocks, a text without padding, guidance in two passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocache.models.base import unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens, packed_pass
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, Pass

QWEN = unpublished("qwen-image", MLP)
BLOCK = DoubleStream(
    norms=("img_norm1", "txt_norm1"),
    mlp_norms=("img_norm2", "txt_norm2"),
    mlps=("img_mlp", "txt_mlp"),
    padded=True,
)


class QwenImage(Stacked):
    """diffusers' QwenImageTransformer2DModel."""

    name = "qwen-image"
    classes = ("QwenImageTransformer2DModel",)
    recipes = (QWEN,)
    default_steps = 50
    default_guidance = 4.0
    stacked = (Blocks("transformer_blocks", BLOCK, ("encoder_hidden_states", "hidden_states")),)
    scale = "true_cfg_scale"

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        return packed_pass(transformer, arguments)

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        shapes = arguments["img_shapes"][0]
        shapes = shapes if isinstance(shapes, list) else [shapes]
        # pictures to be edited are joined to the stream and make it no grid
        return tuple(shapes[0][1:]) if len(shapes) == 1 and shapes[0][0] == 1 else None

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # the tokens of pictures to be edited may be modulated for time zero
        return not getattr(transformer, "zero_cond_t", False)

    def guides_in_two_passes(self, transformer: Any) -> bool:
        return True  # its true CFG is the only guidance it has

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(64 * 64, 64), (64, 64))
