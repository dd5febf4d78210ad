"""Any schedule, budget and policy."""

from __future__ import annotations

import numpy as np
import pytest

from tocache.errors import OptionError
from tocache.methods import Composed, DuCa, Early, TaylorSeer
from tocache.plan import ALL, Budget, Every, Listed, Policy, Spaced
from tocache.planning import plan_model


def test_the_parts_of_taylorseer_give_its_plan():
    parts = Composed(Every(3, 2), policy=Policy(stale="taylor", order=1), where="stack")
    made, whole = (plan_model("dit-xl-2-256", method) for method in (parts, TaylorSeer(3, where="stack")))
    assert np.array_equal(made.fresh, whole.fresh)
    assert made.policy == whole.policy


def test_fresh_tokens_between_listed_steps_over_forecast_ones():
    policy = Policy(scores={"drift": 1.0}, stale="polynomial", order=1, share="step")
    plan = plan_model("dit-xl-2-256", Composed(Listed((1, 5)), Budget(0.25, {"mlp": 1.0}), policy), steps=10)
    kinds = [plan.kind_of_step(step) for step in range(10)]
    assert kinds == ["full", "full", *["partial"] * 3, "full", *["partial"] * 4]
    assert set(np.unique(plan.fresh[2])) == {0, 64}


def test_a_served_stack_has_no_fresh_tokens():
    with pytest.raises(OptionError, match="budget"):
        Composed(Every(3), Budget(0.2, {"mlp": 1.0}), where="stack")
    with pytest.raises(OptionError, match="where='blocks'"):
        Composed(Every(3), where="blocks")


@pytest.mark.parametrize("count", [2, 7, 13])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("warmup", [1, 2])
def test_spaced_steps_are_as_many_as_were_asked_for(count, power, warmup):
    full = Spaced(count, power, warmup).full(30, None)
    assert full.sum() == count
    assert full[:warmup].all()


def test_a_power_above_1_puts_them_early_and_below_1_late():
    means = [np.flatnonzero(Spaced(8, power).full(40, None)).mean() for power in (2.0, 1.0, 0.5)]
    assert means == sorted(means)
    even = np.diff(np.flatnonzero(Spaced(8, 1.0).full(40, None)))
    assert even.max() - even.min() <= 1


def test_more_than_there_are_steps_are_all():
    assert Spaced(12).full(10, None).all()
    assert (plan_model("dit-xl-2-256", Composed(Spaced(60)), steps=50).fresh == ALL).all()
    assert plan_model("dit-xl-2-256", DuCa(1), steps=5).kind_of_step(4) == "full"


class TestEarly:
    @pytest.mark.parametrize("interval", [1.5, 2, 3, 7])
    @pytest.mark.parametrize("steps", [20, 28, 50])
    def test_its_interval_is_the_share_of_full_steps(self, interval, steps):
        plan = plan_model("flux-dev-1024", Early(interval), steps=steps)
        kinds = [plan.kind_of_step(step) for step in range(steps)]
        assert kinds.count("full") == round(steps / interval)
        assert set(kinds) == {"full", "reuse"}

    def test_it_keeps_one_feature_of_each_stack(self):
        plan = plan_model("flux-dev-1024", Early(2), steps=50)
        assert {site.name for i, site in enumerate(plan.sites) if (plan.fresh[:, 0, i] == 0).any()} == {
            site.name for site in plan.sites if site.kind == "region"
        }

    def test_a_stack_that_cannot_be_one_feature_is_served_by_its_sub_layers(self):
        plan = plan_model("mochi-1-480p", Early(2), steps=20)
        assert "region" not in {site.kind for site in plan.sites}
        assert [plan.kind_of_step(step) for step in range(20)].count("full") == 10
        with pytest.raises(OptionError, match="1536 and 3072 channels wide"):
            plan_model("mochi-1-480p", Early(2, where="stack"), steps=20)

    def test_distances_grow(self):
        full = Early(3, stale="taylor", order=1, warmup=3).plan(plan_model("dit-xl-2-256").anatomies, 50)
        steps = [step for step in range(50) if full.kind_of_step(step) == "full"]
        assert steps[:3] == [0, 1, 2]
        assert np.diff(steps)[:6].max() <= 2 < np.diff(steps)[-4:].min()
        assert full.policy.stale == "taylor"

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"interval": 0.5}, "interval=0.5"), ({"power": 0}, "power=0"), ({"where": "blocks"}, "where='blocks'")],
    )
    def test_what_cannot_be_is_refused(self, options, message):
        with pytest.raises(OptionError, match=message):
            Early(**options)
