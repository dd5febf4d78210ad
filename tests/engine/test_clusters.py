"""Clusters of tokens in a running model."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.plan import Policy

FAMILIES = ("dit", "pixart", "flux")


def test_a_cluster_per_token_is_all_tokens(tiny_of, table):
    """Every MLP of a DiT computes all its tokens, by choice and as ALL; attention is reused in both."""
    tiny = tiny_of("dit")

    def everything(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            fresh[[s for s in range(9) if s not in (0, 1, 6)], :, i] = -1 if site.kind == "mlp" else 0

    runs = []
    for method in (tocache.ClusCa(5, clusters=16, order=0), table(everything)):
        model = tiny.build()
        tocache.enable(model, method)
        runs.append(tiny.run(model))
        assert tocache.report(model).overruled == 0
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_one_token_of_each_cluster_is_fresh_and_the_others_move_toward_it(tiny_of, table):
    """One MLP, followed by hand: an output that is the step's number, so that what moves and how far can be read."""
    tiny = tiny_of("dit")
    model = tiny.build()

    class Clock(torch.nn.Module):
        net = (None, None, torch.nn.Linear(64, 16))
        step = 0.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, self.step)

    clock = model.transformer_blocks[0].ff = Clock()

    def fill(fresh, source, anatomy):
        fresh[1:, :, anatomy.index["transformer_blocks.0.ff"]] = 4

    policy = Policy(scores={"random": 1.0}, clusters=4, propagation=0.25)
    tocache.enable(model, table(fill, policy))
    served = []
    with tocache.trace(model) as traced, tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            clock.step = float(step)
            cache = tocache.engine.intercept.owner_of(model).engine
            tiny.forward(model, step)
            if step:
                served.append(cache.run._caches[0].newest(1)[0, :, 0].clone() if step < 8 else None)
            run.step()
    first = served[0]
    fresh = set(traced.choices[1, 0, "transformer_blocks.0.ff"][0].tolist())
    assert {i for i, value in enumerate(first.tolist()) if value == 1.0} == fresh
    assert {value for i, value in enumerate(first.tolist()) if i not in fresh} == {0.25}  # all clusters had one
    again = served[1]
    newer = set(traced.choices[2, 0, "transformer_blocks.0.ff"][0].tolist())
    for i, (before, after) in enumerate(zip(first.tolist(), again.tolist(), strict=True)):
        assert after == pytest.approx(2.0 if i in newer else before + 0.25 * (2.0 - before))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("kept", [{}, {"storage": "int8"}, {"offload": True}], ids=str)
def test_the_bytes_are_those_that_the_plan_states(tiny_of, family, order, kept):
    model = tiny_of(family).build()
    tocache.enable(model, tocache.ClusCa(4, clusters=4, order=order, propagation=0.1), **kept)
    tiny_of(family).run(model)
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.flops_computed == report.flops_planned
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.cache_bytes_device_peak == report.cache_bytes_device_planned


def test_both_guidance_halves_have_the_same_clusters(tiny_of):
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, tocache.ClusCa(4, clusters=4))
    with tocache.trace(model) as traced:
        tiny.run(model, cfg="uncond,cond")
    assert traced.choices
    assert all(torch.equal(index[0], index[1]) for index in traced.choices.values())


def test_a_run_outside_of_inference_mode_may_follow_one_inside(tiny_of):
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ClusCa(4, clusters=4, order=0, propagation=0.1))
    with torch.inference_mode():
        inside = tiny.run(model)
    assert all(torch.equal(one, other) for one, other in zip(inside, tiny.run(model), strict=True))
