"""Our methods as contenders: how they are named, swept and costed."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.contenders import OURS, parse_methods, sweep
from tocache.methods import FORA, METHODS, Placed, Uncached
from tocache.plan import flops_uncached, save_plan
from tocache.planning import plan_model

STEPS = 20


@pytest.fixture(scope="module")
def anatomies():
    return plan_model("pixart-xl-2-256", Uncached(), steps=STEPS).anatomies


def test_methods_are_named_with_their_fixed_options():
    text = 'toca,fora,toca:fresh_ratio=0.2:share=step:scores={"norm":1,"random":0.5},fora'
    assert parse_methods(text) == [
        ("toca", "toca", {}),
        ("fora", "fora", {}),
        (
            'toca:fresh_ratio=0.2:share=step:scores={"norm":1,"random":0.5}',
            "toca",
            {"fresh_ratio": 0.2, "share": "step", "scores": {"norm": 1, "random": 0.5}},
        ),
    ]
    assert [name for _, name, _ in parse_methods("all")] == [name for name in METHODS if name not in ("none", "placed")]


def test_plans_that_are_given_as_files_are_one_curve(tmp_path, anatomies):
    for count in (5, 10):
        save_plan(Placed(tuple(range(count)), of=STEPS).plan(anatomies, STEPS), tmp_path / f"first{count}.json")
    ((curve, name, given),) = parse_methods(f"{tmp_path / 'first5.json'},{tmp_path / 'first10.json'}")
    swept = sweep(curve, name, given, anatomies, STEPS, uncached=None)
    assert [(one.curve, one.setting, one.always) for one in swept] == [
        ("tuned", "first10", True),
        ("tuned", "first5", True),
    ]
    assert [one.ratio for one in swept] == pytest.approx([2, 4], rel=0.02)


def test_what_cannot_be_named_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'fora'"):
        parse_methods("foro")
    with pytest.raises(OptionError, match="no option 'speed'; its options: interval"):
        parse_methods("fora:speed=3")
    with pytest.raises(OptionError, match="interval=0"):
        parse_methods("fora:interval=0")


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_is_swept_from_mild_to_strong(name, anatomies):
    swept = sweep(name, name, {}, anatomies, STEPS, uncached=None)
    ratios = [one.ratio for one in swept]
    assert ratios == sorted(ratios)
    assert ratios[0] >= 1
    assert len({one.setting for one in swept}) == len(swept)
    assert {(one.curve, one.kind) for one in swept} == {(name, OURS)}


def test_fora_is_swept_over_its_interval(anatomies):
    swept = sweep("fora", "fora", {}, anatomies, STEPS, uncached=None)
    assert swept[0].setting == "interval=2"
    assert swept[0].ratio == pytest.approx(2, rel=0.02)
    assert swept[-1].ratio == pytest.approx(STEPS, rel=0.35)  # one step in full, and what every pass costs


def test_what_no_plan_can_save_lowers_the_ratio(anatomies):
    (plain,) = sweep("fora", "fora", {"interval": 2}, anatomies, STEPS, uncached=None)
    plan = FORA(2).plan(anatomies, STEPS)
    more = 2 * flops_uncached(plan)  # as much again that is always computed
    (counted,) = sweep("fora", "fora", {"interval": 2}, anatomies, STEPS, uncached=more)
    assert counted.ratio == pytest.approx(2 / (1 + 1 / plain.ratio))


def test_what_is_fixed_is_not_swept(anatomies):
    (only,) = sweep("fora:interval=4", "fora", {"interval": 4}, anatomies, STEPS, uncached=None)
    assert only.setting == "FORA(interval=4)"


def test_a_setting_that_the_model_cannot_have_raises_where_none_can(anatomies):
    with pytest.raises(OptionError):
        sweep("toca", "toca", {"recipe": "no-such"}, anatomies, STEPS, uncached=None)
