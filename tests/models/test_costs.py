"""What a family says that its sub-layers cost, against torch's counter."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import tocache
from tocache.engine.wiring import Fused
from tocache.evaluation.flops import counted
from tocache.models.registry import family_of

PUBLISHED = ("dit", "opensora")  # their costs follow a published count, which has more than matrix products


def test_a_full_pass_costs_what_a_counter_counts_in_the_sub_layers(case):
    if case.name in PUBLISHED:
        pytest.skip("counted as published")
    pipe = case.make()
    transformer = pipe.transformer
    modules = []
    for layer in family_of(transformer).layers(transformer):
        modules += [layer.mlp_in, layer.attention, layer.mlp_out] if isinstance(layer, Fused) else [layer.module]
    tocache.enable(pipe, tocache.Uncached())
    with ExitStack() as stack:
        counts = [stack.enter_context(counted(transformer.get_submodule(name))) for name in modules]
        text = [stack.enter_context(counted(projection)) for projection in text_projections(transformer, modules)]
        case.draw(pipe, num_inference_steps=9)
    found = sum(count.flops for count in counts) - sum(count.flops for count in text)
    assert found == tocache.report(pipe).flops_computed


def text_projections(transformer, modules):
    """Keys and values of a cross-attention, which no anatomy counts: they are the same in all steps."""
    for name in modules:
        module = transformer.get_submodule(name)
        if getattr(module, "is_cross_attention", False):
            yield from (module.to_k, module.to_v)
