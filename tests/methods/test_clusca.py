"""ClusCa's plans."""

from __future__ import annotations

import numpy as np
import pytest

from tocache.errors import OptionError
from tocache.methods import ClusCa, TaylorSeer
from tocache.plan import flops_planned, flops_uncached
from tocache.planning import plan_model


@pytest.mark.parametrize("model", ["dit-xl-2-256", "pixart-xl-2-256", "flux-dev-1024", "opensora-1.2-480p-2s"])
def test_between_full_steps_one_token_of_each_cluster_is_computed(model):
    plan = plan_model(model, ClusCa(5, 16, warmup=3), steps=20)
    assert [s for s in range(20) if plan.kind_of_step(s) == "full"] == [0, 1, 2, 7, 12, 17]
    assert set(np.unique(plan.fresh[3])) == {0, 16}
    assert (plan.policy.clusters, plan.policy.share) == (16, "step")


def test_published_flops():
    """N = 5 on DiT-XL/2, 50 steps: 3.97 times fewer; TaylorSeer, which computes no tokens in between, 4.53."""
    plan = plan_model("dit-xl-2-256", ClusCa(5), steps=50)
    assert flops_uncached(plan) / flops_planned(plan) == pytest.approx(3.97, abs=0.01)
    forecast = plan_model("dit-xl-2-256", TaylorSeer(5), steps=50)
    assert flops_uncached(forecast) / flops_planned(forecast) == pytest.approx(4.53, abs=0.01)


def test_without_a_forecast_features_are_reused():
    assert plan_model("dit-xl-2-256", ClusCa(order=0), steps=20).policy.stale == "reuse"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 257}, r"clusters=257 is not allowed; allowed: 1 … 256 tokens"),
        ({"clusters": 0}, "clusters=0"),
        ({"propagation": 1.5}, r"propagation=1\.5 is not allowed; allowed: 0 … 1"),
        ({"order": 9}, "order=9"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        plan_model("dit-xl-2-256", ClusCa(**options))
