"""DuCa: reuse and fresh tokens take turns."""

from __future__ import annotations

import numpy as np
import pytest

from tocache.errors import OptionError
from tocache.methods import FORA, DuCa
from tocache.plan import flops_planned, flops_uncached
from tocache.planning import plan_model

MODELS = ("dit-xl-2-256", "pixart-xl-2-256", "flux-dev-1024", "opensora-1.2-480p-2s")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("interval", [2, 3, 5])
def test_without_fresh_tokens_it_is_fora(model, interval):
    assert np.array_equal(plan_model(model, DuCa(interval, 0.0)).fresh, plan_model(model, FORA(interval)).fresh)


@pytest.mark.parametrize("model", MODELS)
def test_reuse_comes_first_after_a_full_step_then_fresh_tokens(model):
    plan = plan_model(model, DuCa(5, 0.2), steps=50)
    kinds = [plan.kind_of_step(step) for step in range(50)]
    since = 0
    for kind in kinds:
        since = 0 if kind == "full" else since + 1
        assert kind == ("full", "reuse", "partial", "reuse", "partial")[since]


def test_the_ratio_is_the_same_everywhere():
    plan = plan_model("pixart-xl-2-256", DuCa(4, 0.25), steps=20)
    assert set(np.unique(plan.fresh)) == {-1, 0, 64}


def test_between_foras_and_tocas_flops():
    """Published: 2.48 times fewer for N = 3 on DiT-XL/2 with 50 steps, between FORA's 2.77 and ToCa's 2.32."""
    ratios = {}
    for ratio in (0.0, 0.1, 1.0):
        plan = plan_model("dit-xl-2-256", DuCa(3, ratio), steps=50)
        ratios[ratio] = flops_uncached(plan) / flops_planned(plan)
    assert ratios[0.0] > ratios[0.1] > ratios[1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval=0"),
        ({"fresh_ratio": 2}, "fresh_ratio=2 is not allowed; allowed: 0 … 1"),
        ({"scores": {"vnorm": 1.0}}, "scores='vnorm' is not allowed"),
        ({"staleness": -1}, "staleness=-1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        DuCa(**options)
