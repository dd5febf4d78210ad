"""From a prompt to the words that the model was trained on, and to their embeddings."""

from __future__ import annotations

import html
import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tocache.errors import TocacheWarning


def with_scores(
    prompt: str, aesthetic: float | None = 6.5, motion: float | None = None, camera: str | None = None
) -> str:
    """`prompt` with the scores that captions carried in training, each unless it is None or written there already."""
    scores = (
        ("aesthetic score", None if aesthetic is None else f"{aesthetic:.1f}"),
        ("motion score", None if motion is None else f"{motion:.1f}"),
        ("camera motion", camera),
    )
    for name, value in scores:
        if value is not None and f"{name}:" not in prompt:
            prompt = f"{prompt} {name}: {value}."
    return prompt


def can_clean() -> bool:
    """Whether the packages are there that clean prompts; where one is not, a TocacheWarning names it."""
    if missing := [name for name, module in _CLEANERS.items() if importlib.util.find_spec(module) is None]:
        warnings.warn(
            f"{' and '.join(missing)} not installed: prompts are not cleaned as in training (pip install "
            "'tocache[opensora]'; clean_caption=False leaves it out without this warning)",
            TocacheWarning,
            stacklevel=3,
        )
    return not missing


def cleaned(prompt: str) -> str:
    """`prompt` as captions were cleaned for training (twice), with diffusers' own cleaning.

    That needs ftfy and beautifulsoup4. Without them, only entities are resolved and letters made small, and a
    TocacheWarning says so.
    """
    if not can_clean():
        return plain(html.unescape(html.unescape(prompt)))
    from diffusers import PixArtAlphaPipeline

    # the same training captions were behind PixArt-α; the method reads one pattern of its class, and no instance
    once: str = PixArtAlphaPipeline._clean_caption(PixArtAlphaPipeline, prompt)
    twice: str = PixArtAlphaPipeline._clean_caption(PixArtAlphaPipeline, once)
    return twice


def plain(prompt: str) -> str:
    """`prompt` in small letters, without space around it: what is left of the cleaning when it is switched off."""
    return prompt.lower().strip()


def embed(
    prompts: Sequence[str], tokenizer: Any, encoder: Any, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Embeddings (prompts, length, channels) and mask (prompts, length), 1 where there is text.

    Prompts are padded to `length` tokens, or truncated with a TocacheWarning that says what is lost.
    """
    found = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    _warn_of_truncation(prompts, tokenizer, length)
    mask = found.attention_mask.to(device)
    embeddings: Tensor = encoder(found.input_ids.to(device), attention_mask=mask)[0]
    return embeddings, mask


def without_padding(embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Both as long as the longest text, and no mask where no padding is left.

    Masked tokens never reach the model, so its output is the same; attention without a mask runs faster.
    """
    longest = int((mask != 0).sum(dim=1).max())
    if bool((mask[:, longest:] != 0).any()):  # padding between the words: not from a tokenizer
        return embeddings, mask
    embeddings, mask = embeddings[:, :longest], mask[:, :longest]
    return embeddings, None if bool((mask != 0).all()) else mask


_CLEANERS = {"ftfy": "ftfy", "beautifulsoup4": "bs4"}  # package → module


def _warn_of_truncation(prompts: Sequence[str], tokenizer: Any, length: int) -> None:
    for prompt in prompts:
        words = tokenizer(prompt, add_special_tokens=True, truncation=False, verbose=False).input_ids
        if len(words) > length:
            kept = length - 1  # the end token stays
            lost = tokenizer.decode(words[kept:], skip_special_tokens=True)
            warnings.warn(
                f"the prompt has {len(words)} tokens, of which the model takes {length}; it is truncated, without: "
                f"{lost!r}",
                TocacheWarning,
                stacklevel=2,
            )
