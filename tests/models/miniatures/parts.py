"""What the miniatures share: text encoders, the loading of classes that not every diffusers has, seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tocache.demo.random_pipelines import cast
from tocache.demo.random_text import tiny_t5_encoder, tiny_t5_tokenizer
from tocache.demo.random_weights import fill_body, seeded

RECOGNISED = {"norm": 1.0}  # the scores of models that no family lists
TEXTS = ("a red circle", "a blue square above a circle", "sea")


def miniature(parts: Callable[[], Any]) -> Callable[..., Any]:
    """A builder of pipelines from one that takes the sizes alone: it draws the weights, and casts them."""

    def build(seed: int = 0, *, dtype: torch.dtype = torch.float32, **sizes: Any) -> Any:
        with seeded(seed) as generator:
            pipe = parts(**sizes)
            for name in ("transformer", "transformer_2"):
                if (transformer := getattr(pipe, name, None)) is not None:
                    fill_body(transformer.eval(), generator)
        cast(pipe, dtype)
        return pipe

    return build


def t5() -> dict[str, Any]:
    """A tokenizer and a text encoder of width `tocache.demo.random_text.TEXT_DIM`."""
    tokenizer = tiny_t5_tokenizer()
    return {"tokenizer": tokenizer, "text_encoder": tiny_t5_encoder(tokenizer)}
