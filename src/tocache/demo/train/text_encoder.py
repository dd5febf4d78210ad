"""Tokenizer and text encoder of `demo:text` and `demo:video`: a small T5 that learns to read before they draw."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from tocache.demo.world.caption import vocabulary

SCORE_WORDS = ("aesthetic", "score:", "6.5.")
"""What Open-Sora's pipeline writes behind prompts, and captions of pictures never say."""
_LENGTH = 120  # of a prompt in tokens, as PixArtAlphaPipeline cuts it


def new_tokenizer(more: Sequence[str] = ()) -> T5Tokenizer:
    """One token for each word of the captions; other words are spelled in printable ASCII, and the rest is unknown.

    Words in `more` get tokens of their own, after all others.
    """
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = sorted(set(string.printable) - set(string.whitespace) - set(string.ascii_uppercase))
    # A unigram model takes the split with the highest sum of scores: a word must beat its spelling.
    words = [(f"▁{word}", -3.0) for word in vocabulary() if word not in characters]
    letters = [(f"▁{word}", -3.0) for word in vocabulary() if word in characters and word != ","]
    pieces = [("▁", -4.0), *((c, -6.0) for c in characters), *letters, *words]
    pieces += [(f"▁{word}", -3.0) for word in more]
    return T5Tokenizer(vocab=special + pieces, extra_ids=0, model_max_length=_LENGTH)


def new_text_encoder(tokenizer: T5Tokenizer, width: int = 128, layers: int = 2) -> T5EncoderModel:
    """An untrained T5 v1.1 encoder."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_heads=width // 32,
        num_layers=layers,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def load_words(folder: Path, tokenizer: T5Tokenizer) -> T5EncoderModel:
    """The text encoder of a run of `words`, for a tokenizer with or without the score's words; it learns no more."""
    encoder = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    resized(encoder, tokenizer)
    return encoder.requires_grad_(False)


def resized(encoder: T5EncoderModel, tokenizer: T5Tokenizer) -> None:
    """Gives the encoder a row for each token: the words of the score come last, so that all others keep theirs."""
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
