"""Renaming and cutting tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tocache.checkpoints.remap import Rule, linear, remap, shapes_of
from tocache.errors import CheckpointError


class Model(nn.Module):
    """Two projections and a modulation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm = nn.Linear(width, 2 * width)


RULES = (*linear("qk", "q", "k"), *linear("mod", "norm", swap_halves=True))
SHAPES = shapes_of(Model, {"width": 3})


@pytest.fixture
def state() -> dict[str, Tensor]:
    shapes = {"qk.weight": (9, 3), "qk.bias": (9,), "mod.weight": (6, 3), "mod.bias": (6,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_shapes_need_no_weights() -> None:
    assert SHAPES["k.weight"] == (6, 3)
    assert shapes_of(Model, {"width": 100_000})["norm.bias"] == (200_000,)


def test_rows_are_cut_apart_and_halves_change_places(state: dict[str, Tensor]) -> None:
    renamed = remap(state, RULES, SHAPES)
    model: Any = Model(3)
    model.load_state_dict(renamed, strict=True)
    assert torch.equal(torch.cat([model.q.weight, model.k.weight]), state["qk.weight"])
    assert torch.equal(model.norm.bias, torch.cat([state["mod.bias"][3:], state["mod.bias"][:3]]))


def test_what_does_not_fit_is_named_by_the_original_name(state: dict[str, Tensor]) -> None:
    del state["mod.bias"]
    state |= {"extra": torch.zeros(1), "qk.weight": torch.zeros(8, 3)}
    with pytest.raises(CheckpointError) as caught:
        remap(state, RULES, SHAPES)
    for part in ("1 missing: mod.bias", "1 unexpected: extra", "qk.weight has shape (8, 3), expected (9, 3)"):
        assert part in str(caught.value)


def test_a_target_without_a_rule_is_named(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"nothing in the checkpoint becomes extra of the diffusers model"):
        remap(state, RULES, {**SHAPES, "extra": torch.Size([1])})
    with pytest.raises(CheckpointError, match=r"1 unexpected: mod\.bias"):
        remap(state, [rule for rule in RULES if rule.source != "mod.bias"], SHAPES)


def test_a_rule_is_data() -> None:
    assert list(linear("a", "b")) == [Rule("a.weight", ("b.weight",)), Rule("a.bias", ("b.bias",))]
