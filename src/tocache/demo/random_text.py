"""Tiny text encoders with random weights, and tokenizers made in code, in the classes that the real pipelines use.

Both tokenizers split a word into frequent English letter pairs and single characters, so that different words get
different ids with no vocabulary to download. What they cannot spell (T5: anything outside printable ASCII) becomes
the unknown token.
"""

from __future__ import annotations

import string

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

TEXT_DIM = 32
"""Width of the embeddings of both encoders."""

_CLIP_LENGTH = 77
_T5_LENGTH = 512
_FREQUENT = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic "
    "ne ea ra ce li ch ll be ma si om ur"
)
_LETTER_PAIRS = _FREQUENT.split()


def tiny_t5_tokenizer() -> T5Tokenizer:
    """Unigram tokenizer over printable ASCII; pad, end and unknown have T5's ids 0, 1, 2."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = sorted(set(string.printable) - set(string.whitespace))
    # A unigram model takes the split with the highest sum of scores: one pair must beat two characters.
    pieces = [("▁", -2.0), *((c, -4.0) for c in characters), *((p, -5.0) for p in _LETTER_PAIRS)]
    return T5Tokenizer(vocab=special + pieces, extra_ids=0, model_max_length=_T5_LENGTH)


def tiny_t5_encoder(tokenizer: T5Tokenizer, layers: int = 2) -> T5EncoderModel:
    """T5 v1.1 encoder of width `TEXT_DIM`; its weights come from torch's global generator."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_DIM,
        d_kv=TEXT_DIM // 2,
        d_ff=2 * TEXT_DIM,
        num_heads=2,
        num_layers=layers,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def tiny_clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE tokenizer whose merges are the letter pairs, each inside a word and at its end."""
    alphabet = sorted(ByteLevel.alphabet())
    inside = [(pair[0], pair[1]) for pair in _LETTER_PAIRS]
    at_end = [(pair[0], pair[1] + "</w>") for pair in _LETTER_PAIRS]
    merges = at_end + inside
    pieces = [*alphabet, *(c + "</w>" for c in alphabet), *(a + b for a, b in merges)]
    # Last, as in the published CLIP vocabulary.
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_CLIP_LENGTH)


def tiny_clip_encoder(tokenizer: CLIPTokenizer, layers: int = 2) -> CLIPTextModel:
    """CLIP text encoder of width `TEXT_DIM`; its weights come from torch's global generator."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=2 * TEXT_DIM,
        projection_dim=TEXT_DIM,
        num_attention_heads=2,
        num_hidden_layers=layers,
        max_position_embeddings=_CLIP_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,  # the pooled embedding is read at the first of these
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()
