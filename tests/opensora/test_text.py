"""From prompts to embeddings."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from tocache.errors import OptionError, TocacheWarning
from tocache.opensora import text

from .conftest import TEXT_LENGTH


def test_scores_are_written_once() -> None:
    assert text.with_scores("a fish") == "a fish aesthetic score: 6.5."
    assert text.with_scores("a fish aesthetic score: 5.0.") == "a fish aesthetic score: 5.0."
    assert text.with_scores("a fish", 7, 4.25, "pan left") == (
        "a fish aesthetic score: 7.0. motion score: 4.2. camera motion: pan left."
    )
    assert text.with_scores("a fish", None) == "a fish"


def test_cleaning_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(TocacheWarning, match="ftfy and beautifulsoup4 not installed: prompts are not cleaned"):
        assert text.cleaned(" A &amp;amp; B ") == "a & b"


def test_cleaning_is_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both packages, every prompt is cleaned twice."""
    from diffusers import PixArtAlphaPipeline

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(PixArtAlphaPipeline, "_clean_caption", lambda self, caption: f"<{caption}>")
    assert text.cleaned("x") == "<<x>>"


def test_real_cleaning() -> None:
    assert text.cleaned("A <b>Cat</b> and a dog, https://example.com/x") == "a cat and a dog"
    assert text.cleaned(text.with_scores("A cat")) == "a cat aesthetic score: 6.5."


def test_long_prompt_is_truncated_with_a_warning(pipe: Any) -> None:
    prompt = "one two three four five six seven eight nine ten eleven end"
    with pytest.warns(
        TocacheWarning, match=rf"of which the model takes {TEXT_LENGTH}; it is truncated, without: .*end"
    ):
        embeddings, mask = pipe.encode_prompt(prompt, clean_caption=False, aesthetic_score=None)
    assert embeddings.shape == (1, TEXT_LENGTH, 32)
    assert mask.tolist() == [[1] * TEXT_LENGTH]


def test_short_prompt_is_padded(pipe: Any) -> None:
    embeddings, mask = pipe.encode_prompt(["sea", "a sea"], clean_caption=False, aesthetic_score=None)
    assert embeddings.shape == (2, TEXT_LENGTH, 32)
    lengths = [len(pipe.tokenizer(words).input_ids) for words in ("sea", "a sea")]
    assert mask.sum(dim=1).tolist() == lengths


def test_padding_is_left_out() -> None:
    embeddings = torch.arange(8.0).reshape(2, 4, 1)
    cut, mask = text.without_padding(embeddings, torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]))
    assert torch.equal(cut, embeddings[:, :2])
    assert mask is not None
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert text.without_padding(embeddings, torch.tensor([[1, 1, 1, 0]] * 2))[1] is None
    gaps = torch.tensor([[1, 0, 1, 0]] * 2)
    assert text.without_padding(embeddings, gaps)[1] is gaps


def test_without_a_text_encoder(pipe: Any) -> None:
    pipe.text_encoder = None
    with pytest.raises(OptionError, match="no text encoder: give prompt_embeds and prompt_attention_mask"):
        pipe.encode_prompt("sea")
