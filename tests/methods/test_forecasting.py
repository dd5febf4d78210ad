"""Methods that forecast: which steps they compute, what they serve in between, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest

from tocache.errors import OptionError
from tocache.methods import FORA, FreqCa, HiCache, Newton, Spectrum, TaylorSeer
from tocache.plan import ALL, SKIPPED, Policy, flops_planned, flops_uncached, lifetimes
from tocache.planning import plan_model

FORECASTING = (TaylorSeer, HiCache, Newton, Spectrum, FreqCa)


def full_steps(plan):
    return [step for step in range(plan.steps) if plan.kind_of_step(step) == "full"]


@pytest.mark.parametrize("method", FORECASTING, ids=lambda method: method.name)
@pytest.mark.parametrize("model", ["dit-xl-2-256", "pixart-xl-2-256", "flux-dev-1024", "opensora-1.2-480p-2s"])
def test_everything_is_computed_in_the_warm_up_and_then_every_interval(method, model):
    plan = plan_model(model, method(4, warmup=3), steps=20)
    assert full_steps(plan) == [0, 1, 2, 6, 10, 14, 18]
    assert plan.kind_of_step(5) == "reuse"


@pytest.mark.parametrize("method", FORECASTING, ids=lambda method: method.name)
def test_the_policy_names_the_basis(method):
    policy = plan_model("dit-xl-2-256", method(order=3), steps=20).policy
    assert (policy.stale, policy.order) == (method.basis, 3)


def test_taylorseers_published_flops():
    """N = 3 on DiT-XL/2, 50 steps: 2.77 times fewer (arXiv 2503.06923, table of DiT)."""
    plan = plan_model("dit-xl-2-256", TaylorSeer(3), steps=50)
    assert flops_uncached(plan) / flops_planned(plan) == pytest.approx(2.77, rel=0.02)


def test_a_stack_is_one_feature():
    sublayers = plan_model("dit-xl-2-256", TaylorSeer(3), steps=50)
    stack = plan_model("dit-xl-2-256", TaylorSeer(3, where="stack"), steps=50)
    assert len(stack.sites) == len(sublayers.sites) + 1
    assert lifetimes(sublayers).peak_bytes == 56 * lifetimes(stack).peak_bytes
    served = stack.amounts[2, 0]
    assert (served == 0).sum() == 1
    assert (served == SKIPPED).sum() == len(sublayers.sites)
    assert flops_planned(stack) == pytest.approx(flops_planned(sublayers), rel=0.01)


def test_a_model_of_two_stacks_has_two():
    plan = plan_model("flux-dev-1024", TaylorSeer(3, where="stack"), steps=50)
    assert (plan.amounts[2, 0] == 0).sum() == 2


def test_spectrum_keeps_its_window():
    plan = plan_model("dit-xl-2-256", Spectrum(3, window=6), steps=50)
    one = plan_model("dit-xl-2-256", FORA(3), steps=50)
    assert plan.policy.history == 6
    assert lifetimes(plan).peak_bytes == 6 * lifetimes(one).peak_bytes / 56


def test_order_0_is_reuse_with_another_warm_up():
    forecast = plan_model("dit-xl-2-256", TaylorSeer(3, order=0), steps=50)
    assert lifetimes(forecast).peak_bytes == lifetimes(plan_model("dit-xl-2-256", FORA(3), steps=50)).peak_bytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval=0"),
        ({"order": 5}, "order=5 is not allowed; allowed: 0 … 4"),
        ({"order": 1.0}, r"order=1\.0"),
        ({"warmup": 0}, "warmup=0"),
        ({"where": "block"}, r"where='block' is not allowed; allowed: sublayers \| stack"),
        ({"base": 1}, "no option 'base'"),
    ],
)
@pytest.mark.parametrize("method", FORECASTING, ids=lambda method: method.name)
def test_what_cannot_be_is_refused(method, options, message):
    with pytest.raises(OptionError, match=message):
        method(**options)


def test_so_are_the_options_of_one_basis():
    with pytest.raises(OptionError, match="contraction=0 is not allowed"):
        HiCache(contraction=0)
    with pytest.raises(OptionError, match="window=4 is not allowed; allowed: 5 … 32 at order 4"):
        Spectrum(window=4)
    with pytest.raises(OptionError, match=r"low=1\.5 is not allowed; allowed: 0 … 1"):
        FreqCa(low=1.5)
    with pytest.raises(OptionError, match=r"low=0\.1 is not allowed; allowed: 0 where all is reused"):
        Policy(low=0.1)
    with pytest.raises(OptionError, match="ridge"):
        Spectrum(ridge=-1)


def test_the_first_step_is_always_full():
    for method in FORECASTING:
        assert (plan_model("pixart-xl-2-256", method(7, warmup=1), steps=5).fresh[0] == ALL).all()
    assert np.array_equal(full_steps(plan_model("pixart-xl-2-256", Newton(1), steps=5)), np.arange(5))
