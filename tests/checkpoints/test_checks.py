"""Comparing the tensors of a checkpoint with those of a model."""

from __future__ import annotations

import pytest
import torch

from tocache.checkpoints.checks import check_tensors, listed, naming
from tocache.errors import CheckpointError

SHAPES = {"a.weight": (2, 3), "a.bias": (2,), "b": torch.Size([4])}


def test_the_same_names_and_shapes_pass() -> None:
    assert check_tensors({name: torch.zeros(shape) for name, shape in SHAPES.items()}, SHAPES) is None


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(CheckpointError) as caught:
        check_tensors({"a.weight": torch.zeros(3, 2), "b": torch.zeros(()), "c": torch.zeros(1)}, SHAPES)
    assert str(caught.value) == (
        "the tensors are not those of the model; 1 missing: a.bias; 1 unexpected: c; "
        "2 of another shape: a.weight has shape (3, 2), expected (2, 3), b has shape (), expected (4,)"
    )


def test_long_lists_are_cut() -> None:
    names = [f"n{i:02}" for i in range(15)]
    assert listed(reversed(names)) == ", ".join(names[:12]) + " and 3 more"
    assert listed(names[:12]) == ", ".join(names[:12])
    assert listed([]) == ""


def test_naming_begins_the_message() -> None:
    with pytest.raises(CheckpointError, match=r"^folder/model\.pt: no good$") as caught, naming("folder/model.pt"):
        raise CheckpointError("no good") from KeyError("a")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(KeyError), naming("folder"):
        raise KeyError("a")
