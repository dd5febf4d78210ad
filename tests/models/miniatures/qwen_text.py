"""A tiny Qwen2.5-VL and a tiny Qwen3, and a tokenizer that spells the prompt's frame as the real one does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AddedToken,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
)

from tocache.demo.random_text import TEXT_DIM


def tiny_byte_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and a chat that is its messages one behind the other."""
    alphabet = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[])
    tokenizer.chat_template = "{% for message in messages %}> {{ message['content'] }}{% endfor %}"
    return tokenizer


def tiny_qwen_tokenizer(frame: str, pieces: int) -> Qwen2Tokenizer:
    """Bytes, and `frame` in so many pieces: pipelines drop as many tokens as the real tokenizer makes of it."""
    tokenizer = tiny_byte_tokenizer()
    bounds = [len(frame) * i // pieces for i in range(pieces + 1)]
    words = [frame[start:stop] for start, stop in pairwise(bounds)]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    assert len(tokenizer(frame).input_ids) == pieces
    return tokenizer


def tiny_qwen_encoder(tokenizer: Any) -> Any:
    """Qwen2.5-VL of two blocks of width TEXT_DIM; its weights come from torch's global generator."""
    text = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "tie_word_embeddings": True}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": TEXT_DIM}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"fullatt_block_indexes": [0]})
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def tiny_qwen3_encoder(tokenizer: Any) -> Any:
    """Qwen3 of two blocks of width TEXT_DIM; its weights come from torch's global generator."""
    sizes = {"hidden_size": TEXT_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": len(tokenizer)}
    return Qwen3Model(Qwen3Config(**sizes)).eval()
