"""Stable Audio Open (Evans et al., arXiv 2407.14358): a sound's latents behind one token that tells time and length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocache.models.base import itemsize_of, unpublished
from tocache.models.separable import CROSS_NOTES, Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, UNCOND_COND, Pass

STABLE_AUDIO = unpublished("stable-audio", CROSS_ATTENTION, MLP)
BLOCK = Separable(Module("attn1", "norm1"), Module("ff", "norm3"), cross=Module("attn2", "norm2"))

_TEXT = 128 + 2  # the prompt, and where the sound starts and ends


class StableAudio(Stacked):
    """diffusers' StableAudioDiTModel. Its sound is what other families call the image."""

    name = "stable-audio"
    classes = ("StableAudioDiTModel",)
    recipes = (STABLE_AUDIO,)
    default_steps = 100
    default_guidance = 7.0
    stacked = (Blocks("transformer_blocks", BLOCK),)
    halves = UNCOND_COND
    notes = CROSS_NOTES

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, sound = arguments["hidden_states"].shape
        tokens = arguments["global_hidden_states"].shape[1] + sound
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, {"image": tokens}, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, {"image": 1 + transformer.config.sample_size}, context=_TEXT)
