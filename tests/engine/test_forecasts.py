"""Forecast features in a running model: an MLP whose output is a polynomial of the step number."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.demo.random_pipelines import random_text_pipeline
from tocache.engine.intercept import owner_of
from tocache.engine.run import clock_of
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


class TestClock:
    TIMES = (1000.0, 990.0, 900.0, 880.0, 500.0, 490.0, 300.0, 100.0, 20.0)

    @pytest.mark.parametrize("clock", ["steps", "times"])
    def test_a_line_in_time_is_forecast_by_the_clock_of_times_alone(self, tiny_of, table, clock):
        """Steps of very different lengths, in each of which an MLP's output is a line in the step's time."""
        tiny = tiny_of("dit")
        outputs = []
        for method in (tocache.Uncached(), served(table, Policy(stale="polynomial", order=1, clock=clock))):
            model = tiny.build()
            mlps = [Polynomial(1, 16) for _ in model.transformer_blocks]
            for block, mlp in zip(model.transformer_blocks, mlps, strict=True):
                block.ff = mlp
                mlp.net = [None, None, torch.nn.Linear(64, 16)]
            tocache.enable(model, method)
            outputs.append([])
            with tocache.run(model, timesteps=torch.tensor(self.TIMES), cfg=None) as run:
                for step, time in enumerate(self.TIMES):
                    for mlp in mlps:
                        mlp.step = time / 100
                    outputs[-1].append(tiny.forward(model, step))
                    run.step()
        exact = [torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(*outputs, strict=True)]
        assert exact == [clock == "times" or step in FULL for step in range(9)]

    def test_the_clock_counts_steps_where_times_stand_still_go_back_or_are_none(self):
        assert clock_of(torch.tensor([3, 2, 1])) == (3.0, 2.0, 1.0)
        assert clock_of([0.1, 0.5]) == (0.1, 0.5)
        for times in ([3, 2, 2], [3, 1, 2], ["a", "b", "c"]):
            assert clock_of(times) == (0.0, 1.0, 2.0)

    def test_a_pipelines_clock_is_its_schedulers(self, tiny_of):
        pipe = random_text_pipeline(depth=2, sample_size=16)
        pipe.set_progress_bar_config(disable=True)
        tocache.enable(pipe, tocache.Newton(2, clock="times"))
        clocks = []
        with tocache.watch(pipe, lambda record: clocks.append(owner_of(pipe).engine.run.times)):
            pipe(
                "a circle",
                num_inference_steps=9,
                output_type="latent",
                use_resolution_binning=False,
                clean_caption=False,
            )
        assert clocks[0] == tuple(map(float, pipe.scheduler.timesteps.tolist()))
        assert len(set(clocks)) == 1
