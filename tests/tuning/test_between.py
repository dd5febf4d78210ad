"""Ways to fill the steps between full ones: what is tried first, and what from there."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tocache.demo.random_pipelines import random_class_pipeline, random_text_pipeline
from tocache.methods import Uncached
from tocache.models.architectures import ARCHITECTURES, is_here
from tocache.plan.anatomy import REGION
from tocache.planning import plan_model
from tocache.tuning.between import LINE, LOW, REUSE, Between, Tokens, betweens, variants
from tocache.tuning.refine import Spots

SPOTS = Spots((0, 4, 7), (2, 5))


@pytest.fixture(scope="module", params=[random_class_pipeline, random_text_pipeline])
def anatomies(request):
    return _anatomies(request.param())


def _anatomies(pipe):
    import tocache

    with tocache.enabled(pipe, Uncached()):
        prompt = [1] if hasattr(pipe, "get_label_ids") else "a red circle"
        pipe(prompt, num_inference_steps=10, output_type="latent")
        return tocache.report(pipe).plan.anatomies


def _differences(one, other):
    """How many options two ways differ in; those of their tokens count one by one."""
    apart = [f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)]
    if "tokens" in apart and one.tokens and other.tokens:
        apart.remove("tokens")
        apart += [f.name for f in fields(Tokens) if getattr(one.tokens, f.name) != getattr(other.tokens, f.name)]
    return apart


def test_all_ways_and_their_variants_can_be_planned(anatomies):
    ways = {*betweens(anatomies)}
    for _ in range(2):
        ways |= {one for way in ways for one in variants(way, anatomies)}
    assert len({way.name for way in ways}) == len(ways)
    for way in ways:
        spots = SPOTS if way.tokens else Spots(SPOTS.full)
        plan = way.placed(spots, 10).plan(anatomies, 10)
        kinds = [plan.kind_of_step(step) for step in range(10)]
        assert [step for step in range(10) if kinds[step] == "full"] == [0, 4, 7]
        assert [step for step in range(10) if kinds[step] == "partial"] == [*spots.partial], way.name


def test_a_variant_differs_in_one_thing(anatomies):
    tokens = Between(REUSE, "sublayers", Tokens(0.3, "norm", "mlp"))
    found = list(variants(tokens, anatomies))
    assert {tuple(_differences(tokens, one)) for one in found} >= {("served",), ("ratio",), ("score",), ("kind",)}
    assert all(len(_differences(tokens, one)) == 1 for one in found)
    assert tokens not in found


def test_a_forecast_is_varied_by_fresh_tokens_that_leave_it_the_others(anatomies):
    found = [one for one in variants(Between(LINE), anatomies) if one.tokens]
    assert {one.served for one in found} == {LINE}
    assert found[0].name == "10% of the tokens by norm, line for the others"
    assert found[0].placed(SPOTS, 10).stale == "taylor"


def test_shares_are_varied_by_their_neighbours_and_by_all(anatomies):
    tokens = Between(REUSE, "sublayers", Tokens(0.3, "norm"))
    assert {one.tokens.ratio for one in variants(tokens, anatomies)} == {0.2, 0.3, 0.5, 1.0}
    whole = replace(tokens, tokens=Tokens(1.0, "norm"))
    assert {one.tokens.score for one in variants(whole, anatomies)} == {"norm"}  # nothing is chosen


def test_where_no_single_token_can_be_computed_none_is_chosen(anatomies):
    whole = [replace(one, sites=tuple(replace(site, rows=False) for site in one.sites)) for one in anatomies]
    assert [one for one in betweens(whole) if one.tokens] == []
    assert [one for way in betweens(whole) for one in variants(way, whole) if one.tokens] == []
    assert LOW not in {one.served for one in variants(Between(REUSE, "sublayers"), whole)}


@pytest.mark.parametrize("model", ["ltx-2-19b-512p", "mochi-1-480p"])
def test_streams_of_two_widths_are_served_by_sub_layers(model):
    if not is_here(ARCHITECTURES[model].transformer):
        pytest.skip(f"diffusers has no {ARCHITECTURES[model].transformer}")
    anatomies = plan_model(model).anatomies
    ways = betweens(anatomies)
    assert {way.where for way in ways if not way.tokens} == {None}
    assert LOW not in {way.served for way in ways}
    for way in ways:
        plan = way.placed(SPOTS if way.tokens else Spots(SPOTS.full), 10).plan(anatomies, 10)
        assert REGION not in {site.kind for site in plan.sites}
        assert plan.kind_of_step(1) == "reuse"
