"""FLUX.2 and FLUX.2 Klein (Black Forest Labs): FLUX's blocks, the single-stream ones in one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocache.engine.wiring import Guidance
from tocache.models.base import in_two_passes, unpublished
from tocache.models.double_stream import DoubleStream, joint_tokens, packed_pass
from tocache.models.single_stream import MergedStream
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import MLP, PARALLEL, Pass

FLUX2 = unpublished("flux2", MLP, PARALLEL)

_TEXT = 512


class Flux2(Stacked):
    """diffusers' Flux2Transformer2DModel."""

    name = "flux2"
    classes = ("Flux2Transformer2DModel",)
    recipes = (FLUX2,)
    default_steps = 50
    default_guidance = 4.0
    stacked = (
        Blocks("transformer_blocks", DoubleStream(), ("encoder_hidden_states", "hidden_states")),
        Blocks("single_transformer_blocks", MergedStream()),
    )

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        return packed_pass(transformer, arguments)

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        ids = arguments["img_ids"]
        last = ids.reshape(-1, ids.shape[-1]).amax(dim=0).tolist()  # (rows, tokens, 4) time, height, width, layer
        # pictures to be edited stand at later times of the same stream and make it no grid
        return (int(last[1]) + 1, int(last[2]) + 1) if last[0] == 0 else None

    def alike(self, transformer: Any, arguments: Mapping[str, Any]) -> bool:
        # where their keys and values are kept, pictures to be edited are modulated for a time of their own
        return arguments.get("kv_cache_mode") != "extract"

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, joint_tokens(64 * 64, _TEXT), (64, 64))

    def guides_in_two_passes(self, transformer: Any) -> bool:
        return False  # the published models embed the scale or are distilled

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        # FLUX.2 embeds the scale, and a distilled Klein ignores it
        if pipeline is not None and (pipeline.transformer.config.guidance_embeds or pipeline.config.is_distilled):
            return Guidance()
        return in_two_passes(arguments)
