"""The passes that a plan before any run counts are those that the family's pipeline makes as it is usually called."""

from __future__ import annotations

import inspect

import pytest

import tocache
from tocache.engine.intercept import plain_class
from tocache.models.ltx2 import HEARING
from tocache.models.registry import family_of
from tocache.models.wan import Wan
from tocache.plan import flops_uncached
from tocache.planning import plan_model, plan_pipeline, summarize

from ..conftest import Case
from .miniatures.wan import WAN

# what the pipeline is called with besides, to be guided at all or as the published weights are
USUAL = {"flux2": {"guidance_scale": 1.0}}


def test_names_rows_and_halves(case: Case) -> None:
    pipe = case.make()
    family = family_of(pipe.transformer)
    if not family.known(pipe.transformer):
        pytest.skip("of a model that no family lists, nothing is planned before a run")
    known = inspect.signature(plain_class(pipe).__call__)
    call = {"prompt": case.prompts[0], "guidance_scale": family.default_guidance} | case.call | USUAL.get(case.name, {})
    arguments = known.bind_partial(pipe, **{name: call[name] for name in call.keys() & known.parameters.keys()})
    arguments.apply_defaults()
    expected = family.guidance(pipe, arguments.arguments).passes
    passes = family.default_passes(pipe.transformer, pictures=1, guided=True, itemsize=2)
    assert len(passes) == len(expected)
    assert [shape.halves for shape in passes] == [halves for _, halves in expected]
    if len(passes) > 1:
        assert [shape.name for shape in passes] == [name for name, _ in expected]
    (alone,) = family.default_passes(pipe.transformer, pictures=1, guided=False, itemsize=2)
    assert alone.halves is None


def test_what_a_run_costs_is_what_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size that is drawn here."""
    pipe, method = WAN.make(), tocache.ToCa(3, 0.3)
    tocache.enable(pipe, method)
    WAN.draw(pipe)
    report = tocache.report(pipe)
    shape = report.plan.anatomies[0].shape
    monkeypatch.setattr(Wan, "usual", lambda family, transformer: shape)
    planned = summarize(plan_pipeline(pipe, method, steps=WAN.steps))
    assert planned.passes == report.passes == 2
    assert (planned.flops_uncached, planned.flops_planned) == (report.flops_uncached, report.flops_planned)
    assert planned.cache_bytes == report.cache_bytes_peak


def test_two_passes_cost_twice_as_much_as_one() -> None:
    one, two = (plan_model("wan-2.1-1.3b-480p", guidance=guidance) for guidance in (1.0, 5.0))
    assert (one.passes, two.passes) == (1, 2)
    assert flops_uncached(two) == 2 * flops_uncached(one)
    assert summarize(two).cache_bytes == 2 * summarize(one).cache_bytes


def test_a_model_that_embeds_its_scale_makes_one_pass() -> None:
    assert plan_model("flux-dev-1024").passes == plan_model("hunyuan-video-720p").passes == 1


def test_ltx_2_makes_a_pass_for_each_of_its_guidances() -> None:
    pytest.importorskip("diffusers.pipelines.ltx2", reason="this diffusers has no LTX-2")
    plan = plan_model("ltx-2-19b-512p")
    assert [a.shape.name for a in plan.anatomies] == ["batch", "perturbed", "isolated"]
    assert [a.shape.rows for a in plan.anatomies] == [2, 1, 1]
    assert plan.anatomies[2].shape.tokens[HEARING] == 0
