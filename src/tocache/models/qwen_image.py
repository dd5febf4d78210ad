"""Qwen-Image (Wu et al., arXiv 2508.02324): double-stream blocks, a text without padding, guidance in two passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Guidance, Layer, Stack
from tocache.models.base import ModelFamily, in_two_passes, itemsize_of, unpublished, width_of
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.plan.anatomy import MLP, Anatomy, Cost, Pass, Site

STACK = "transformer_blocks"
QWEN = unpublished("qwen-image", MLP)
BLOCK = DoubleStream(
    norms=("img_norm1", "txt_norm1"),
    mlp_norms=("img_norm2", "txt_norm2"),
    mlps=("img_mlp", "txt_mlp"),
    padded=True,
)


class QwenImage(ModelFamily):
    """diffusers' QwenImageTransformer2DModel."""

    name = "qwen-image"
    classes = ("QwenImageTransformer2DModel",)
    recipes = (QWEN,)
    default_steps = 50
    default_guidance = 4.0

    def layers(self, transformer: Any) -> Sequence[Layer]:
        return [layer for b in range(len(transformer.transformer_blocks)) for layer in BLOCK.layers(f"{STACK}.{b}")]

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(STACK, ("encoder_hidden_states", "hidden_states")),)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, image, _ = arguments["hidden_states"].shape
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, joint_tokens(image, text), itemsize=itemsize_of(transformer))

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        shapes = arguments["img_shapes"][0]
        shapes = shapes if isinstance(shapes, list) else [shapes]
        # pictures to be edited are joined to the stream and make it no grid
        return tuple(shapes[0][1:]) if len(shapes) == 1 and shapes[0][0] == 1 else None

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # the tokens of pictures to be edited may be modulated for time zero
        return not getattr(transformer, "zero_cond_t", False)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        name = "cond" if guided else "batch"
        return Pass(pictures, joint_tokens(64 * 64, 64), (64, 64), name=name, itemsize=itemsize)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_two_passes(arguments, "true_cfg_scale")

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        blocks, width = transformer.transformer_blocks, width_of(transformer)
        sites: list[Site] = []
        costs: list[Cost] = []
        for b, block in enumerate(blocks):
            place: dict[str, Any] = {"stack": STACK, "block": b, "depth": len(blocks), "width": width}
            sites += BLOCK.sites(f"{STACK}.{b}", place)
            costs += BLOCK.costs(block, shape)
        notes = ("norms and modulation are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)
