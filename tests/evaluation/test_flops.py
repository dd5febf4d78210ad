"""The FLOP counter against what is known of single layers, and against the plan."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tocache
from tocache.evaluation.flops import counted


class Attention(nn.Module):
    def forward(self, q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 3, 5), (7, 16, 1), (4, 33, 9)])
def test_a_linear_layer_is_two_per_weight_and_row(rows, inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad(), counted(layer) as count:
        layer(torch.zeros(rows, inputs))
        layer(torch.zeros(rows, inputs))
    assert count.flops == 2 * 2 * rows * inputs * outputs
    assert count.forwards == 2


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(16, 16), (5, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_attention_is_its_two_products(masked, queries, keys, dtype):
    rows, heads, width = 2, 3, 8
    q, k = (torch.zeros(rows, heads, tokens, width, dtype=dtype) for tokens in (queries, keys))
    mask = torch.zeros(rows, 1, 1, keys, dtype=dtype) if masked else None
    module = Attention()
    with torch.no_grad(), counted(module) as count:
        module(q, k, k, mask)
    assert count.flops == 2 * 2 * rows * heads * queries * keys * width


def test_what_others_compute_is_left_out():
    layer, other = nn.Linear(3, 3), nn.Linear(50, 50)
    with torch.no_grad(), counted(layer) as count:
        other(torch.zeros(2, 50))
        layer(torch.zeros(1, 3))
    assert count.flops == 18
    layer(torch.zeros(1, 3))
    assert count.flops == 18  # nothing stays attached


def test_fora_saves_what_its_plan_says(case):
    """More, in fact: published costs leave out the keys and values of the prompt, which a small model feels."""
    pipe = case.make()
    with counted(pipe.transformer) as uncached:
        case.draw(pipe)
    with tocache.enabled(pipe, tocache.FORA(interval=3)), counted(pipe.transformer) as cached:
        case.draw(pipe)
        report = tocache.report(pipe)
    saved = (uncached.flops - cached.flops) / (report.flops_uncached - report.flops_computed)
    assert 0.95 < saved < 1.25
    assert cached.forwards == uncached.forwards
