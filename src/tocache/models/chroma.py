"""Chroma: FLUX's blocks, modulated from one small network, with guidance in two passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tocache.engine.wiring import Conditioned, Guidance, Stack
from tocache.models.base import in_two_passes, unpublished
from tocache.models.flux import Flux
from tocache.plan.anatomy import MLP, PARALLEL

CHROMA = unpublished("chroma", MLP, PARALLEL)


class Chroma(Flux):
    """diffusers' ChromaTransformer2DModel."""

    name = "chroma"
    classes = ("ChromaTransformer2DModel",)
    recipes = (CHROMA,)
    default_steps = 35
    default_guidance = 5.0
    notes = ("norms and modulation are not counted",)

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        double, single = super().stacks(transformer)
        return double, replace(single, streams=("hidden_states",))  # both streams come joined

    def conditioned(self, transformer: Any) -> Conditioned | None:
        return None  # the small network has no block's own projection

    def guides_in_two_passes(self, transformer: Any) -> bool:
        return True

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_two_passes(arguments)
