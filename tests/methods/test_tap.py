"""TAP: what it computes, what that costs, and what it refuses."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.methods import TAP, TaylorSeer
from tocache.plan import ALL, SKIPPED, Policy, flops_planned, flops_uncached
from tocache.planning import plan_model


def test_between_full_steps_the_first_block_is_computed_and_all_others_are_served():
    plan = plan_model("dit-xl-2-256", TAP(4, warmup=3), steps=20)
    names = [site.name for site in plan.sites]
    assert [step for step in range(20) if plan.kind_of_step(step) == "full"] == [0, 1, 2, 6, 10, 14, 18]
    between = dict(zip(names, plan.amounts[3, 0].tolist(), strict=True))
    assert between.pop("transformer_blocks[1:28]") == 0
    assert {amount for name, amount in between.items() if ".0." in name or "[0:1]" in name} == {ALL}
    assert {amount for name, amount in between.items() if ".0." not in name and "[" not in name} == {SKIPPED}


def test_a_step_between_costs_one_block():
    tap, stack = (plan_model("dit-xl-2-256", method, steps=50) for method in (TAP(3), TaylorSeer(3, where="stack")))
    between = 50 - 17  # full steps: the first two, then every third
    block = flops_uncached(tap) / 50 / 28
    assert flops_planned(tap) - flops_planned(stack) == pytest.approx(between * block, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval=0"),
        ({"order": 0}, "order=0 is not allowed; allowed: 1 … 4"),
        ({"basis": "reuse"}, r"basis='reuse' is not allowed; allowed: polynomial \| taylor"),
        ({"probe": 0}, "probe=0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TAP(**options)


def test_a_probe_as_deep_as_the_model_is_refused():
    with pytest.raises(OptionError, match="probe=28 is not allowed; allowed: 1 … 27, all blocks but one"):
        plan_model("dit-xl-2-256", TAP(probe=28), steps=20)


@pytest.mark.parametrize("options", [{"stale": "reuse"}, {"stale": "taylor", "offload": True}])
def test_a_policy_that_cannot_choose_is_refused(options):
    with pytest.raises(OptionError, match="adaptive=True is not allowed"):
        Policy(adaptive=True, **options)
