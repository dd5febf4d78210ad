"""What sub-layers move, read off their modules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tocache.models.architectures import ARCHITECTURES, build_meta, is_here
from tocache.models.costs import attention_cost, cross_cost, linear_moved, linear_weights, outside_weights, token_cost
from tocache.models.registry import family_of
from tocache.plan import Cost
from tocache.planning import plan_model

SIZES = st.integers(1, 37)


@given(SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_a_linear_layer_reads_its_weights_once_and_each_token(
    rows: int, tokens: int, into: int, out: int, bias: bool
) -> None:
    layer = nn.Linear(into, out, bias=bias, device="meta")
    cost = token_cost(rows, tokens, layer)
    assert cost.weights == sum(weight.numel() for weight in layer.parameters())
    assert cost.moved == rows * (into + out)
    assert cost.full == rows * tokens * 2 * into * out


class Attention(nn.Module):
    """The projections of an attention, as diffusers names them."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q, self.to_out = nn.Linear(width, width), nn.ModuleList([nn.Linear(width, width), nn.Dropout()])
        self.to_k, self.to_v = nn.Linear(context, width), nn.Linear(context, width)


def test_an_attention_reads_three_and_writes_one() -> None:
    attention = Attention(6, 6)
    cost = attention_cost(attention, 2, 10, 10)
    assert cost.weights == linear_weights([attention]) == 4 * (36 + 6)
    assert cost.moved == 2 * (4 * 12 + 4 * 6)
    assert cost.shared == 0


def test_an_attention_to_a_text_makes_its_keys_and_values_anew() -> None:
    attention = Attention(6, 5)
    cost = cross_cost(attention, 2, 10, 3)
    assert cost.weights == linear_weights([attention])
    assert cost.moved == 2 * (2 * 12 + 2 * 6)  # query and output: projected, then read and written by the attention
    assert cost.shared == 2 * 3 * (2 * 11 + 2 * 6)
    assert cost.full == cost.token * 10


def test_what_lies_deeper_and_what_is_no_linear_layer() -> None:
    module = nn.Sequential(nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 8, bias=False), nn.GELU(), nn.Linear(8, 4)))
    assert linear_weights([module]) == 4 * 8 + 8 * 4 + 4
    assert linear_moved([module]) == 24


def test_lookup_tables_are_not_read_whole() -> None:
    module = nn.Sequential(nn.Embedding(1000, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    assert outside_weights(module, [Cost(0, 0, weights=8 * 8)]) == 8 + 16
    assert outside_weights(module, [Cost(0, 0, weights=10**6)]) == 0


@pytest.mark.parametrize("name", [name for name, a in ARCHITECTURES.items() if is_here(a.transformer)])
def test_every_known_model_says_what_its_sites_move(name: str) -> None:
    transformer = build_meta(name)
    anatomy = plan_model(name).anatomies[0]
    for site, cost in zip(anatomy.sites, anatomy.costs, strict=True):
        assert cost.moved or not cost.full, site.name
        # FLOPs per byte of what is moved: a site whose traffic was forgotten would stand far above
        assert cost.full <= 4 * cost.moved * anatomy.tokens(site) * max(anatomy.tokens(site), 60_000), site.name
    in_sites = sum(cost.weights for cost in anatomy.costs)
    every = sum(weight.numel() for weight in transformer.parameters())
    assert 0 < anatomy.outside < every
    assert in_sites + anatomy.outside <= every
    assert in_sites > 0.4 * every


def test_the_floor_of_dit_is_its_modulation() -> None:
    plan = plan_model("dit-xl-2-256")
    transformer = build_meta("dit-xl-2-256")
    modulation = sum(
        weight.numel() for block in transformer.transformer_blocks for weight in block.norm1.linear.parameters()
    )
    assert family_of(transformer).name == "dit"
    assert modulation == 28 * 6 * 1152 * 1153
    assert modulation > 0.8 * plan.anatomies[0].outside
    assert modulation < plan.anatomies[0].ahead < plan.anatomies[0].outside  # embeddings of time as well
