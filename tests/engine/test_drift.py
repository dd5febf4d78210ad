"""The score that a full step leaves: how far its tokens are from what would have been served."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.plan import Policy

FULL = (0, 1, 4, 7)
MOVING = {0: 3.0, 5: 2.0, 11: 1.0}  # tokens whose MLP output moves, and how fast


class Moving(torch.nn.Module):
    """Stands in for an MLP: some tokens' outputs move on with the step, along a line or a parabola; others stay."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.net = [None, None, torch.nn.Linear(64, 16)]  # sizes are read off it
        self.power, self.step = power, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        if x.shape[1] == 16:
            for token, speed in MOVING.items():
                y[:, token] = speed * self.step**self.power
        return y


def chosen(tiny_of, table, policy: Policy, power: int) -> dict[int, list[int]]:
    """The three tokens that the first MLP computes, by step."""
    model = tiny_of("dit").build()
    mlps = [Moving(power) for _ in model.transformer_blocks]
    for block, mlp in zip(model.transformer_blocks, mlps, strict=True):
        block.ff = mlp

    def fill(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            if site.name.endswith(".ff"):
                fresh[[step for step in range(9) if step not in FULL], :, i] = 3

    tocache.enable(model, table(fill, policy))
    with tocache.trace(model) as traced, tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            for mlp in mlps:
                mlp.step = step
            tiny_of("dit").forward(model, step)
            run.step()
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned
    return {step: index[0].tolist() for (step, _, site), index in traced.choices.items() if ".0.ff" in site}


@pytest.mark.parametrize("share", ["sublayer", "block", "step"])
def test_where_features_are_reused_the_tokens_that_move_come_first_fastest_first(tiny_of, table, share):
    choices = chosen(tiny_of, table, Policy(scores={"drift": 1.0}, share=share), power=1)
    assert choices[2] == choices[3] == list(MOVING)
    assert choices[5] == choices[8] == list(MOVING)


def test_where_they_are_forecast_a_steady_move_is_no_drift(tiny_of, table):
    policy = Policy(scores={"drift": 1.0}, stale="polynomial", order=1)
    assert chosen(tiny_of, table, policy, power=1)[5] == [0, 1, 2]  # all forecasts were right: the order of the tokens
    assert chosen(tiny_of, table, policy, power=2)[5] == list(MOVING)


def test_a_product_lets_a_fast_token_wait_less_than_a_slow_one(tiny_of, table):
    """Three are fresh in each step; with staleness as a factor, the slow movers never starve, and still ones do."""
    policy = Policy(scores={"drift": 1.0}, combine="product", staleness=1.0, interval=3)
    for tokens in chosen(tiny_of, table, policy, power=1).values():
        assert set(tokens) == set(MOVING)


def test_after_one_full_step_there_is_no_drift_and_all_count_the_same(tiny_of, table):
    model = tiny_of("dit").build()

    def fill(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            if site.name.endswith(".ff"):
                fresh[1:, :, i] = 4

    tocache.enable(model, table(fill, Policy(scores={"drift": 1.0})))
    with tocache.trace(model) as traced:
        tiny_of("dit").run(model)
    assert all(index[0].tolist() == [0, 1, 2, 3] for index in traced.choices.values())


@pytest.mark.parametrize("storage", ["same", "int8"])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("stale", ["reuse", "polynomial"])
@pytest.mark.parametrize("share", ["sublayer", "step"])
def test_the_bytes_are_those_that_the_plan_states(tiny, storage, offload, stale, share):
    model = tiny.build()
    order = 0 if stale == "reuse" else 1
    method = tocache.ToCa(3, 0.3, scores={"drift": 1.0}, stale=stale, order=order, share=share)
    tocache.enable(model, method, storage=storage, offload=offload)
    tiny.run(model)
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.cache_bytes_device_peak == report.cache_bytes_device_planned
