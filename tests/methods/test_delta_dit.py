"""Δ-DiT: rear blocks are served first, front blocks later."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.methods import DeltaDiT
from tocache.plan import SKIPPED, flops_planned, flops_uncached
from tocache.planning import plan_model


def skipped_blocks(plan, step, stack="transformer_blocks"):
    return sorted(
        {
            site.block
            for site, amount in zip(plan.sites, plan.amounts[step, 0], strict=True)
            if amount == SKIPPED and site.stack == stack
        }
    )


def test_rear_blocks_before_the_turn_and_front_blocks_after_it():
    plan = plan_model("dit-xl-2-256", DeltaDiT(2, blocks=10, turn=0.6), steps=20)
    assert skipped_blocks(plan, 0) == skipped_blocks(plan, 2) == []
    assert skipped_blocks(plan, 1) == skipped_blocks(plan, 11) == list(range(18, 28))
    assert skipped_blocks(plan, 13) == skipped_blocks(plan, 19) == list(range(10))


def test_half_of_each_stack_by_default():
    plan = plan_model("flux-dev-1024", DeltaDiT(), steps=20)
    assert skipped_blocks(plan, 1) == list(range(10, 19))
    assert skipped_blocks(plan, 1, "single_transformer_blocks") == list(range(19, 38))


def test_what_it_saves_is_the_share_of_the_blocks_in_the_share_of_the_steps():
    plan = plan_model("dit-xl-2-256", DeltaDiT(4, blocks=7), steps=40)
    saved = 1 - flops_planned(plan) / flops_uncached(plan)
    assert saved == pytest.approx(7 / 28 * 3 / 4, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 15}, "blocks=15 is not allowed; allowed: 1 … 14, half of transformer_blocks"),
        ({"blocks": 0}, "blocks=0"),
        ({"turn": 1.5}, r"turn=1\.5"),
        ({"interval": 0}, "interval=0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        plan_model("dit-xl-2-256", DeltaDiT(**options))
