"""Sizes read off names and shapes."""

from __future__ import annotations

import pytest
import torch

from tocache.checkpoints import sizes
from tocache.errors import CheckpointError

STATE = {
    "blocks.0.weight": torch.zeros(2, 3),
    "blocks.11.weight": torch.zeros(1),
    "my.blocks.20.weight": torch.zeros(1),
}


def test_shape() -> None:
    assert sizes.shape(STATE, "blocks.0.weight", 2) == (2, 3)
    with pytest.raises(CheckpointError, match=r"^blocks\.0\.weight has shape \(2, 3\); expected 4 dimensions"):
        sizes.shape(STATE, "blocks.0.weight", 4)
    with pytest.raises(CheckpointError, match="the checkpoint lacks head, which tells the model's sizes"):
        sizes.shape(STATE, "head", 1)


def test_depth_counts_up_to_the_highest_number() -> None:
    assert sizes.depth(STATE, "blocks") == 12
    assert sizes.depth(STATE, "my.blocks") == 21
    with pytest.raises(CheckpointError, match=r"no tensors named layers\.0\."):
        sizes.depth(STATE, "layers")
