"""Forecast features in a running model: an MLP whose output is a polynomial of the step number."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.plan import Policy

FULL = (0, 1, 4, 6)  # uneven on purpose


class Polynomial(torch.nn.Module):
    """Stands in for an MLP: the same polynomial of the step for every token, however many there are."""

    def __init__(self, degree: int, width: int) -> None:
        super().__init__()
        self.coefficients = torch.randn(degree + 1, width, generator=torch.Generator().manual_seed(degree))
        self.step = 0
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = sum(c * (self.step / 4) ** n for n, c in enumerate(self.coefficients))
        return y.expand(*x.shape[:2], -1).clone()


def outputs(tiny, method, degree: int) -> tuple[list[torch.Tensor], int]:
    """The outputs of 9 steps in which every MLP is that polynomial, and how often it was called."""
    model = tiny.build()
    mlps = [Polynomial(degree, 16) for _ in model.transformer_blocks]
    for block, mlp in zip(model.transformer_blocks, mlps, strict=True):
        block.ff = mlp
    # sizes are read off the MLP's last layer
    for mlp in mlps:
        mlp.net = [None, None, torch.nn.Linear(64, 16)]
    tocache.enable(model, method)
    results = []
    with tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            for mlp in mlps:
                mlp.step = step
            results.append(tiny.forward(model, step))
            run.step()
    assert tocache.report(model).overruled == 0
    return results, sum(mlp.calls for mlp in mlps)


def served(table, policy):
    def fill(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            if site.name.endswith(".ff"):
                fresh[[step for step in range(9) if step not in FULL], :, i] = 0

    return table(fill, policy)


@pytest.mark.parametrize("family", ["dit", "flux"])
@pytest.mark.parametrize("degree", [1, 2])
def test_a_forecast_of_that_order_is_exact_as_soon_as_it_has_the_features(tiny_of, table, family, degree):
    tiny = tiny_of(family)
    computed, calls = outputs(tiny, tocache.Uncached(), degree)
    forecast, fewer = outputs(tiny, served(table, Policy(stale="polynomial", order=degree)), degree)
    reused, _ = outputs(tiny, served(table, Policy()), degree)
    assert fewer == calls * len(FULL) // 9
    known = FULL[degree]  # from this full step on there are enough
    for step in range(known, 9):
        torch.testing.assert_close(forecast[step], computed[step], rtol=1e-3, atol=1e-3)
        if step not in FULL:
            assert not torch.allclose(reused[step], computed[step], rtol=1e-2, atol=1e-2)


def test_too_low_an_order_is_not_exact(tiny_of, table):
    tiny = tiny_of("dit")
    computed, _ = outputs(tiny, tocache.Uncached(), 2)
    forecast, _ = outputs(tiny, served(table, Policy(stale="polynomial", order=1)), 2)
    assert not torch.allclose(forecast[8], computed[8], rtol=1e-2, atol=1e-2)


def test_a_forecast_of_order_0_is_reuse(tiny, table, by_kind):
    kinds = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)
    runs = []
    for policy in (Policy(), Policy(stale="polynomial", order=0)):
        model = tiny.build()
        tocache.enable(model, table(by_kind(FULL, **kinds), policy))
        runs.append(tiny.run(model))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_the_bytes_of_a_history_are_those_that_the_plan_states(tiny, table, by_kind, order):
    kinds = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)
    model = tiny.build()
    tocache.enable(model, table(by_kind(FULL, **kinds), Policy(stale="polynomial", order=order)))
    tiny.run(model)
    report = tocache.report(model)
    assert report.cache_bytes_peak == report.cache_bytes_planned
    tocache.enable(model, table(by_kind(FULL, **kinds)))
    tiny.run(model)
    assert report.cache_bytes_peak > tocache.report(model).cache_bytes_peak


def test_forecast_tokens_between_fresh_ones(tiny_of, table):
    """In a partial step the others are forecast, and the fresh rows stand in their places."""
    tiny = tiny_of("dit")

    def fill(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            if site.name.endswith(".ff"):
                fresh[[step for step in range(9) if step not in FULL], :, i] = 5

    policy = Policy({"norm": 1.0}, stale="polynomial", order=1)
    computed, _ = outputs(tiny, tocache.Uncached(), 1)
    forecast, calls = outputs(tiny, table(fill, policy), 1)
    assert calls == 9 * 4
    for step in range(1, 9):
        torch.testing.assert_close(forecast[step], computed[step], rtol=1e-3, atol=1e-3)
