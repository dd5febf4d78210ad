"""The methods: what they refuse, what they are called, and the plans they make."""

from __future__ import annotations

import copy
import functools
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import ClassVar

import diffusers
import numpy as np
import pytest
import torch

from tocache.errors import OptionError, PlanMismatchError, UnknownNameError
from tocache.methods import FORA, METHODS, PAB, DuCa, Method, Placed, Planned, ToCa, Uncached, fill_table
from tocache.models.registry import FAMILIES, family_named
from tocache.opensora import STDiT3Transformer3DModel
from tocache.plan import ALL, Anatomy, Budget, Every, Pass, Plan, Policy, flops_planned, flops_uncached
from tocache.presets import BALANCED, PRESETS, preset, preset_names, preset_steps, presets_of

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "sample_size": 16}


@functools.cache
def anatomy(family: str) -> Anatomy:
    """Four blocks, 64 image tokens, one guided picture."""
    with torch.device("meta"):
        if family == "dit":
            model = diffusers.DiTTransformer2DModel(num_layers=4, **HEADS)
            shape = Pass(2, {"image": 64}, (8, 8), "cond,uncond")
        elif family == "pixart":
            model = diffusers.PixArtTransformer2DModel(
                num_layers=4, cross_attention_dim=32, caption_channels=32, **HEADS
            )
            shape = Pass(2, {"image": 64}, (8, 8), "uncond,cond", context=20)
        elif family == "opensora":
            model = STDiT3Transformer3DModel(num_layers=2, num_attention_heads=2, attention_head_dim=12)
            shape = Pass(2, {"image": 60}, (5, 3, 4), "cond,uncond", context=20)
        else:
            model = diffusers.FluxTransformer2DModel(
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                axes_dims_rope=(4, 6, 6),
            )
            shape = Pass(1, {"image": 64, "text": 8, "joint": 72}, (8, 8))
    return FAMILIES[family].anatomy(model, shape)


def planned(method: Method, family: str = "dit", steps: int = 50, passes: int = 1) -> Plan:
    return method.plan([anatomy(family)] * passes, steps)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"interval": 0}, r"interval=0 is not allowed; allowed: an integer >= 1"),
            ({"interval": 2.0}, r"interval=2\.0 is not allowed"),
            ({"interval": True}, r"interval=True is not allowed"),
            ({"interval": "3"}, r"interval='3' is not allowed"),
            ({"fresh_ratio": 1.01}, r"fresh_ratio=1\.01 is not allowed; allowed: 0 … 1"),
            ({"fresh_ratio": -0.1}, r"fresh_ratio=-0\.1 is not allowed"),
            ({"fresh_ratio": float("nan")}, "fresh_ratio=nan is not allowed"),
            ({"fresh_ratio": "0.1"}, r"fresh_ratio='0\.1' is not allowed"),
            ({"schedule": "random"}, r"schedule='random' is not allowed; allowed: weighted \| constant"),
            ({"ratio": "linear"}, r"ratio='linear' is not allowed; allowed: weighted \| constant"),
            ({"share": "head"}, r"share='head' is not allowed; allowed: sublayer \| block \| step"),
            ({"staleness": -1}, r"staleness=-1 is not allowed; allowed: a number >= 0"),
            ({"spread": "much"}, r"spread='much' is not allowed"),
            ({"spread_size": 0}, r"spread_size=0 is not allowed; allowed: an integer >= 1"),
            ({"spread_size": "2"}, r"spread_size='2' is not allowed"),
            ({"spread_size": 1.5}, r"spread_size=1\.5 is not allowed"),
            ({"scores": {"influenc": 1.0}}, r"scores='influenc' is not allowed; allowed: influence \| "),
            ({"scores": {"influence": "x"}}, "scores"),
            ({"scores": ["influence"]}, "scores"),
            ({"kinds": {"mpl": 1.0}}, "kinds.*'mpl'"),
            ({"kinds": {"mlp": -1.0}}, "kinds"),
            ({"kinds": 2.5}, "kinds"),
            ({"time": "late"}, "time='late' is not allowed"),
            ({"depth": float("nan")}, "depth=nan is not allowed"),
            ({"together": "yes"}, "together='yes' is not allowed"),
            ({"seed": "x"}, "seed='x' is not allowed"),
            ({"queries": 0}, "queries=0 is not allowed; allowed: above 0, up to 1"),
            ({"queries": "all"}, "queries='all' is not allowed"),
        ],
        ids=str,
    )
    def test_a_value_out_of_its_range_names_field_value_and_range(self, options, message):
        with pytest.raises(OptionError, match=message):
            ToCa(**options)

    def test_fora_refuses_alike(self):
        with pytest.raises(OptionError, match="interval=-2 is not allowed; allowed: an integer >= 1"):
            FORA(-2)

    @pytest.mark.parametrize(("method", "name", "near"), [(ToCa, "fresh_ration", "fresh_ratio"), (FORA, "n", None)])
    def test_an_unknown_option_is_named_with_a_hint_and_the_known_ones(self, method, name, near):
        with pytest.raises(OptionError) as caught:
            method(**{name: 1})
        message = str(caught.value)
        assert f"{method.__name__} has no option {name!r}" in message
        assert (f"did you mean {near!r}?" in message) == (near is not None)
        assert "interval" in message.partition("options:")[2]
        assert isinstance(caught.value, ValueError)

    def test_an_unknown_recipe(self):
        with pytest.raises(
            UnknownNameError, match=r"unknown recipe 'dit-ddim5'; did you mean 'dit-ddim50'\?.* known: "
        ):
            ToCa(recipe="dit-ddim5")

    def test_methods_are_values(self):
        assert ToCa(3, 0.07) == ToCa(interval=3, fresh_ratio=0.07) != ToCa(3, 0.08)
        with pytest.raises(FrozenInstanceError):
            FORA(3).interval = 4
        method = ToCa(3, 0.1, kinds={"mlp": 2.0})
        assert pickle.loads(pickle.dumps(method)) == copy.deepcopy(method) == replace(method) == method

    def test_a_method_prints_as_the_call_that_makes_it(self):
        for method in (ToCa(), ToCa(4, 0.07, share="step", scores={"norm": 1.0}), FORA(), FORA(5), Uncached()):
            assert eval(str(method), {"ToCa": ToCa, "FORA": FORA, "Uncached": Uncached}) == method
        assert str(ToCa(3, 0.1)) == "ToCa(interval=3, fresh_ratio=0.1)"
        assert str(ToCa(queries=0.1)) == "ToCa(queries=0.1)"

    def test_every_method_is_registered_by_its_name(self):
        assert {"none": Uncached, "fora": FORA, "toca": ToCa}.items() <= METHODS.items()
        assert all(name == method.name for name, method in METHODS.items())


class TestPlans:
    @pytest.mark.parametrize("family", ["dit", "pixart", "flux"])
    def test_uncached_computes_everything(self, family):
        plan = planned(Uncached(), family, 7, 2)
        assert plan.fresh.shape == (7, 2, len(plan.sites))
        assert (plan.fresh == ALL).all()

    @pytest.mark.parametrize("family", ["dit", "pixart", "flux"])
    def test_a_fresh_ratio_of_0_is_fora(self, family):
        toca, fora = planned(ToCa(3, 0), family), planned(FORA(3), family)
        assert np.array_equal(toca.fresh, fora.fresh)
        assert set(np.unique(fora.fresh)) == {ALL, 0}

    def test_interval_1_with_no_ratio_is_uncached_and_with_one_is_not(self):
        assert (planned(ToCa(1, 0)).fresh == ALL).all()
        assert (planned(ToCa(1, 0.07)).fresh != ALL).any()  # method.md §6: the interval rounds to 2 at first

    def test_the_number_of_steps_decides_dits_recipe(self):
        def same(method: Method, other: Method, steps: int) -> bool:
            return np.array_equal(planned(method, steps=steps).fresh, planned(other, steps=steps).fresh)

        assert same(ToCa(), ToCa(recipe="dit-ddim50"), 100)
        assert same(ToCa(), ToCa(recipe="dit-ddpm250"), 101)
        assert not same(ToCa(recipe="dit-ddim50"), ToCa(recipe="dit-ddpm250"), 100)

    def test_a_constant_ratio_gives_every_partial_site_the_same(self):
        plan = planned(ToCa(3, 0.25, ratio="constant"))
        assert set(np.unique(plan.fresh)) == {ALL, 0, 16}
        assert all(plan.fresh[:, 0, i].max() == 16 for i, s in enumerate(plan.sites) if s.kind == "mlp")
        assert all(plan.fresh[:, 0, i].max() == 0 for i, s in enumerate(plan.sites) if s.kind == "self-attention")

    def test_a_constant_schedule_never_changes_its_interval(self):
        fresh = planned(ToCa(4, 0.25, schedule="constant"), "pixart", 20).fresh
        assert np.flatnonzero((fresh[:, 0] == ALL).all(axis=1)).tolist() == [0, 4, 8, 12, 16]
        assert np.flatnonzero((fresh[:, 0] == ALL).any(axis=1)).tolist() == [0, 4, 8, 12, 16]

    def test_what_is_given_replaces_the_recipe_and_the_rest_stays(self):
        policy = planned(ToCa(4, 0.2, scores={"norm": 2.0}, spread=0.0, together=True, share="block", seed=5)).policy
        assert policy == Policy(
            {"norm": 2.0}, staleness=0.25, interval=4, spread=0.0, spread_size=2, share="block", together=True, seed=5
        )

    def test_a_share_of_the_queries_is_the_policys_where_influence_is_read(self):
        exact, sampled = planned(ToCa()), planned(ToCa(queries=0.1, seed=3))
        assert exact.policy.queries == 1
        assert sampled.policy == replace(exact.policy, queries=0.1, seed=3)
        assert "queries=0.1" in sampled.method
        influence, placed = {"influence": 1.0}, {"where": "sublayers", "partial": (1,), "queries": 0.1}
        assert planned(DuCa(scores=influence, queries=0.1)).policy.queries == 0.1
        assert planned(Placed(scores=influence, **placed)).policy.queries == 0.1
        with pytest.raises(OptionError, match=r"queries=0\.1 is not allowed; allowed: 1 without the score influence"):
            planned(ToCa(queries=0.1), "pixart")
        with pytest.raises(OptionError, match=r"queries=0\.1"):
            Placed(**placed)

    def test_time_depth_and_kinds_reach_the_budget(self):
        method = ToCa(2, 0.5, schedule="constant", time=0.5, depth=-0.5, kinds={"cross-attention": 1.0})
        plan = planned(method, "pixart")
        budget = Budget(0.5, {"cross-attention": 1.0}, time=0.5, depth=-0.5)
        for i, site in enumerate(plan.sites):
            expected = 0 if site.kind != "cross-attention" else budget.tokens(7, 50, site, 64)
            assert plan.fresh[7, 0, i] == expected
        assert len({plan.fresh[7, 0, i] for i, s in enumerate(plan.sites) if s.kind == "cross-attention"}) == 4

    def test_passes_may_have_different_token_counts(self):
        one = anatomy("flux")
        other = replace(one, shape=replace(one.shape, tokens={"image": 64, "text": 40, "joint": 104}))
        fresh = fill_table([one, other], 6, Every(3), Budget(0.5, {"mlp": 1.0, "parallel": 1.0}))
        text = [i for i, s in enumerate(one.sites) if s.kind == "mlp" and s.group == "text"]
        assert (fresh[1, 0, text] == 4).all()
        assert (fresh[1, 1, text] == 20).all()

    def test_a_method_of_ones_own(self):
        @dataclass(frozen=True)
        class Alternate(Method):
            name: ClassVar[str] = "alternate"
            first: int = 0

            def plan(self, anatomies, steps):
                fresh = np.full((steps, len(anatomies), len(anatomies[0].sites)), ALL, dtype=np.int32)
                fresh[1::2] = 0
                return Plan(tuple(anatomies), fresh, Policy(), str(self))

        assert planned(Alternate(), steps=4).method == "Alternate()"
        with pytest.raises(OptionError, match="Alternate has no option 'frist'; did you mean 'first'"):
            Alternate(frist=1)


class TestPlanned:
    def test_it_runs_the_plan_that_it_was_given(self):
        plan = planned(ToCa(3, 0.3), steps=12)
        again = planned(Planned(plan), steps=12)
        assert np.array_equal(again.fresh, plan.fresh)
        assert str(Planned(plan)) == plan.method

    def test_another_number_of_steps_is_refused_unless_resampling_is_allowed(self):
        plan = planned(ToCa(3, 0.3), steps=12)
        with pytest.raises(PlanMismatchError, match=r"steps: plan 12, here 20 \(resample=True"):
            planned(Planned(plan), steps=20)
        assert np.array_equal(planned(Planned(plan, resample=True), steps=20).fresh, plan.resampled(20).fresh)

    def test_another_model_is_refused(self):
        with pytest.raises(PlanMismatchError, match=r"model: plan DiT.*here PixArt"):
            planned(Planned(planned(FORA(), steps=9)), "pixart", 9)


class TestPresets:
    @pytest.mark.parametrize("chosen", PRESETS, ids=lambda one: f"{one.name}-{one.family}")
    def test_each_plans_its_family_at_its_steps(self, chosen):
        family = chosen.family or "flux"
        plan = planned(preset(chosen.name, family), family, chosen.steps or 28)
        assert (plan.fresh != ALL).any()
        assert chosen.source

    def test_no_family_has_one_twice(self):
        assert len({(one.name, one.family) for one in PRESETS}) == len(PRESETS)

    @pytest.mark.parametrize("family", ["dit", "pixart", "opensora", "flux"])
    def test_levels_of_every_family_rise_in_speed(self, family):
        steps = family_named(family).default_steps
        plans = [planned(preset(name, family), family, steps) for name in ("quality", BALANCED, "fast")]
        ratios = [flops_uncached(plan) / flops_planned(plan) for plan in plans]
        assert ratios == sorted(ratios)
        assert len(set(ratios)) == 3

    def test_a_preset_of_another_family_names_those_for_this_one(self):
        with pytest.raises(OptionError, match=r"'paper-n4' is for the family 'flux', this model is of 'pixart'.*-r60"):
            preset("paper-n4", "pixart")

    def test_an_unknown_preset(self):
        with pytest.raises(UnknownNameError, match=r"unknown preset 'paper-r66'; did you mean 'paper-r60'\?.* known: "):
            preset("paper-r66", "pixart")

    def test_their_steps_are_those_they_were_published_with(self):
        assert preset_steps("paper-ddpm250") == 250
        assert preset_steps(BALANCED) is None
        assert preset_steps("no-such") is None
        assert set(presets_of("no-family")) == {"quality", BALANCED, "fast"}
        assert set(preset_names()) > set(presets_of("flux"))


class TestPAB:
    def test_attention_is_computed_in_its_own_cycle_between_the_times(self):
        opensora = anatomy("opensora")
        plan = PAB(2, 4, 6, begin=930, end=450).plan([opensora], 30)
        times = np.array(family_named("opensora").timesteps(opensora.shape, 30))
        cycles = {"self-attention": 2, "temporal-attention": 4, "cross-attention": 6}
        for i, site in enumerate(plan.sites):
            cycle = cycles.get(site.kind)
            expected = [cycle is not None and 450 < t < 930 and s % cycle != 0 for s, t in enumerate(times)]
            assert (plan.fresh[:, 0, i] == 0).tolist() == expected, site.name
            assert set(plan.fresh[:, 0, i].tolist()) <= {0, ALL}

    def test_a_window_of_nothing_is_no_cache(self):
        assert (planned(PAB(begin=500, end=500), "opensora").fresh == ALL).all()

    def test_intervals_of_one_are_no_cache(self):
        assert (planned(PAB(1, 1, 1), "opensora").fresh == ALL).all()

    @pytest.mark.parametrize(
        "options",
        [{"spatial": 0}, {"temporal": 1.5}, {"cross": True}, {"begin": 1001}, {"begin": 400, "end": 450}],
        ids=str,
    )
    def test_refuses_what_cannot_be(self, options):
        with pytest.raises(OptionError, match=list(options)[-1]):
            PAB(**options)
