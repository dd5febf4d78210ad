"""PixArt-α checkpoints in their real layout; tests/golden compares their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from tocache.errors import CheckpointError
from tocache.models.originals import convert_pixart, load_original, negative_caption

from .layouts import HEADS, PATCH, TEXT_CHANNELS, pixart_shapes, positions, random_state, saved


@pytest.mark.parametrize(("side", "scale"), [(32, 1), (64, 1), (128, 2)])
def test_loads_every_published_size(tmp_path: Path, side: int, scale: int) -> None:
    large = side == 128
    state = {**random_state(pixart_shapes(large)), "pos_embed": positions(side // PATCH)}
    transformer: Any = load_original(saved(tmp_path, {"state_dict": state}), num_heads=HEADS)
    assert isinstance(transformer, PixArtTransformer2DModel)
    assert transformer.config.sample_size == side
    assert transformer.config.interpolation_scale == scale
    assert transformer.config.use_additional_conditions is large
    assert transformer.config.caption_channels == TEXT_CHANNELS
    if large:
        embedder = transformer.adaln_single.emb.aspect_ratio_embedder
        assert torch.equal(embedder.linear_2.weight, state["ar_embedder.mlp.2.weight"])


def test_keeps_the_negative_caption(tmp_path: Path, pixart: dict[str, Tensor]) -> None:
    transformer: Any = load_original(saved(tmp_path, pixart), num_heads=HEADS)
    assert torch.equal(transformer.negative_caption, pixart["y_embedder.y_embedding"])
    assert "negative_caption" not in transformer.state_dict()
    del pixart["y_embedder.y_embedding"]
    assert negative_caption(pixart) is None
    assert load_original(saved(tmp_path, pixart), num_heads=HEADS).negative_caption is None


def test_sample_size_may_be_given(pixart: dict[str, Tensor]) -> None:
    assert convert_pixart(pixart, num_heads=HEADS, sample_size=64)[0]["sample_size"] == 64


def test_unexpected_key_is_named(pixart: dict[str, Tensor]) -> None:
    pixart["blocks.0.attn.sr.weight"] = torch.zeros(1)  # PixArt-Σ's key and value compression
    with pytest.raises(CheckpointError, match=r"1 unexpected: blocks\.0\.attn\.sr\.weight"):
        convert_pixart(pixart, num_heads=HEADS)
