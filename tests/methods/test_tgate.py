"""T-GATE: cross-attention until the gate, self-attention now and then before it."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.methods import TGATE
from tocache.planning import plan_model


def computed(plan, kind):
    """The steps in which the sites of a kind are computed."""
    sites = [i for i, site in enumerate(plan.sites) if site.kind == kind]
    return [step for step in range(plan.steps) if (plan.fresh[step, 0, sites] == -1).all()]


def test_cross_attention_rests_from_the_gate_on():
    plan = plan_model("pixart-xl-2-256", TGATE(0.4), steps=20)
    assert computed(plan, "cross-attention") == list(range(8))
    assert computed(plan, "self-attention") == computed(plan, "mlp") == list(range(20))


def test_self_attention_rests_before_it():
    plan = plan_model("pixart-xl-2-256", TGATE(0.5, interval=4, warmup=2), steps=20)
    assert computed(plan, "self-attention") == [0, 1, 2, 6, *range(10, 20)]


def test_temporal_attention_rests_with_spatial():
    plan = plan_model("opensora-1.2-480p-2s", TGATE(0.5, interval=3, warmup=1), steps=12)
    assert computed(plan, "temporal-attention") == computed(plan, "self-attention") == [0, 1, 4, *range(6, 12)]


def test_a_model_without_cross_attention_is_refused():
    with pytest.raises(OptionError, match="TGATE is for models with cross-attention; DiTTransformer2DModel"):
        plan_model("dit-xl-2-256", TGATE())


@pytest.mark.parametrize(("options", "message"), [({"gate": 2}, "gate=2"), ({"interval": 0}, "interval=0")])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        TGATE(**options)
