"""What a call of OpenSoraPipeline may be given; checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tocache.errors import OptionError

_OUTPUTS = ("pil", "np", "pt", "latent")


def check_prompts(prompt: object, embeds: Tensor | None, mask: Tensor | None, config: Any) -> None:
    """Raises OptionError unless there is either a prompt (one or several) or embeddings that fit, with their mask.

    `config` is the transformer's.
    """
    if (prompt is None) == (embeds is None):
        raise OptionError("give either prompt or prompt_embeds, and not both")
    if (embeds is None) != (mask is None):
        raise OptionError("prompt_embeds and prompt_attention_mask are given together, or neither")
    if embeds is None or mask is None:
        several = isinstance(prompt, Sequence) and len(prompt) > 0 and all(isinstance(one, str) for one in prompt)
        if not isinstance(prompt, str) and not several:
            raise OptionError(f"prompt={prompt!r} is not allowed; allowed: a string, or a list of at least one")
        return
    length, channels = config.max_text_length, config.caption_channels
    if embeds.ndim != 3 or not 1 <= embeds.shape[1] <= length or embeds.shape[2] != channels or not len(embeds):
        raise OptionError(
            f"prompt_embeds has shape {tuple(embeds.shape)}; allowed: (prompts, 1 to {length} tokens, {channels})"
        )
    if mask.shape != embeds.shape[:2]:
        raise OptionError(
            f"prompt_attention_mask has shape {tuple(mask.shape)}; expected {tuple(embeds.shape[:2])}, that of the "
            "tokens in prompt_embeds"
        )


def check_numbers(*, fps: float, guidance_scale: float, num_videos_per_prompt: int) -> None:
    """Raises OptionError for a number out of its range."""
    if not _is_number(fps) or fps <= 0:
        raise OptionError(f"fps={fps!r} is not allowed; allowed: a number above 0")
    if not _is_number(guidance_scale):
        raise OptionError(f"guidance_scale={guidance_scale!r} is not allowed; allowed: a number, 1 or less for none")
    if not isinstance(num_videos_per_prompt, int) or num_videos_per_prompt < 1:
        raise OptionError(f"num_videos_per_prompt={num_videos_per_prompt!r} is not allowed; allowed: an integer >= 1")


def check_outputs(output_type: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    """Raises OptionError for a kind of output, or a tensor for the callback, that there is not."""
    if output_type not in _OUTPUTS:
        raise OptionError(f"output_type={output_type!r} is not allowed; allowed: {', '.join(_OUTPUTS)}")
    if unknown := [name for name in names if name not in allowed]:
        raise OptionError(
            f"callback_on_step_end_tensor_inputs={unknown} are not allowed; allowed: {', '.join(allowed)}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
