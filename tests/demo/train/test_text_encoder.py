"""The tokenizer and text encoder of demo:text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Tokenizer

from tocache.demo.train.text_encoder import new_text_encoder, new_tokenizer
from tocache.demo.world.caption import vocabulary
from tocache.demo.world.scene import Kind, draw_scene

TOKENIZER: T5Tokenizer = new_tokenizer()


@given(seed=st.integers(0, 2**32), index=st.integers(0, 2**41), kind=st.sampled_from(("picture", "clip")))
@settings(deadline=None)
def test_each_word_of_a_caption_is_one_token(seed: int, index: int, kind: Kind) -> None:
    caption = draw_scene(seed, index, kind).caption
    ids = TOKENIZER(caption).input_ids
    assert len(ids) == len(caption.replace(",", " ,").split()) + 1  # and the end
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == caption


def test_words_have_tokens_of_their_own() -> None:
    ids = [tuple(TOKENIZER(word).input_ids[:-1]) for word in vocabulary() if word != ","]
    assert len(set(ids)) == len(ids)
    assert {len(i) for i in ids} == {1}


def test_further_words_come_last() -> None:
    more = new_tokenizer(["score:", "6.5."])
    caption = "a red circle moving left"
    assert more(caption).input_ids == TOKENIZER(caption).input_ids
    assert more("score: 6.5.").input_ids[:-1] == [len(TOKENIZER), len(TOKENIZER) + 1]


@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_categories=["Lu"]), max_size=20))
@settings(deadline=None)
def test_other_words_are_spelled(text: str) -> None:
    ids = TOKENIZER(text).input_ids
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


@given(text=st.text(max_size=300))
@settings(deadline=None)
def test_any_text_gives_tokens_within_the_limit(text: str) -> None:
    batch = TOKENIZER(text, padding="max_length", max_length=120, truncation=True)
    assert len(batch.input_ids) == 120
    assert all(0 <= i < len(TOKENIZER) for i in batch.input_ids)


@pytest.mark.parametrize("width", [64, 128])
def test_the_encoder_takes_all_tokens_and_pays_no_heed_to_padding(width: int) -> None:
    torch.manual_seed(0)
    encoder = new_text_encoder(TOKENIZER, width).eval()
    ids = torch.arange(len(TOKENIZER))[None]
    assert encoder(input_ids=ids).last_hidden_state.shape == (1, len(TOKENIZER), width)
    short = TOKENIZER("a red circle", return_tensors="pt")
    long = TOKENIZER("a red circle", padding="max_length", max_length=20, return_tensors="pt")
    one, other = (encoder(**x).last_hidden_state[:, : short.input_ids.shape[1]] for x in (short, long))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
