"""Features kept on the host or in 8 bits, in a running model: the same pictures, and the bytes that the plan states."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.plan import Policy

FULL = (0, 1, 4, 6)
METHODS = {
    "toca": tocache.ToCa(3, 0.3),
    "toca, one choice a step": tocache.ToCa(3, 0.3, share="step", scores={"norm": 1.0}),
    "fora": tocache.FORA(3),
    "similarity": tocache.ToCa(3, 0.3, scores={"similarity": 1.0}),
}


def drawn(tiny, method, **kept):
    model = tiny.build()
    tocache.enable(model, method, **kept)
    outputs = tiny.run(model)
    return outputs, tocache.report(model)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_features_on_the_host_change_nothing(tiny, method):
    here, there = drawn(tiny, method), drawn(tiny, method, offload=True)
    assert all(torch.equal(one, other) for one, other in zip(here[0], there[0], strict=True))
    assert there[1].cache_bytes_peak == here[1].cache_bytes_peak


@pytest.mark.parametrize("storage", ["same", "int8", "fp8"])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_bytes_are_those_that_the_plan_states(tiny, method, storage, offload):
    _, report = drawn(tiny, method, storage=storage, offload=offload)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.cache_bytes_device_peak == report.cache_bytes_device_planned
    assert (report.cache_bytes_device_peak < report.cache_bytes_peak) == offload


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("offload", [False, True])
def test_so_are_those_of_a_history(tiny, table, by_kind, order, offload):
    kinds = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)
    policy = Policy(stale="polynomial", order=order)
    here, _ = drawn(tiny, table(by_kind(FULL, **kinds), policy))
    outputs, report = drawn(tiny, table(by_kind(FULL, **kinds), policy), offload=offload)
    assert all(torch.equal(one, other) for one, other in zip(here, outputs, strict=True))
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.cache_bytes_device_peak == report.cache_bytes_device_planned


@pytest.mark.parametrize(("storage", "off"), [("int8", 0.01), ("fp8", 0.05)])
def test_8_bits_are_close_and_smaller(tiny, storage, off):
    method = tocache.ToCa(3, 0.3)
    exact, whole = drawn(tiny, method)
    packed, small = drawn(tiny, method, storage=storage)
    # the same tokens are not chosen throughout: a score may depend on a feature, and nearly equal scores swap
    errors = [float((one - other).norm() / one.norm()) for one, other in zip(exact, packed, strict=True)]
    assert 0 < max(errors) < off
    assert small.cache_bytes_peak < whole.cache_bytes_peak / 2


@pytest.mark.parametrize("kept", [{"offload": True}, {"storage": "int8"}, {"storage": "int8", "offload": True}])
def test_a_run_outside_of_inference_mode_may_follow_one_inside(tiny, kept):
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3), **kept)
    with torch.inference_mode():
        inside = tiny.run(model)
    outside = tiny.run(model)
    assert all(torch.equal(one, other) for one, other in zip(inside, outside, strict=True))


def test_gradients_flow_through_fresh_tokens_of_features_on_the_host(tiny_of):
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3), offload=True)
    with tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            arguments = tiny.inputs(step)
            x = arguments["hidden_states"].requires_grad_()
            model(**arguments)[0].sum().backward()
            assert x.grad is not None
            assert bool(x.grad.any())
            run.step()


def test_a_saved_plan_says_how_features_are_kept(tiny, tmp_path):
    _, report = drawn(tiny, tocache.FORA(3), storage="int8", offload=True)
    path = tmp_path / "plan.json"
    tocache.save_plan(report.plan, path)
    _, again = drawn(tiny, path)
    assert again.cache_bytes_device_peak == report.cache_bytes_device_peak
    _, otherwise = drawn(tiny, path, storage="same", offload=False)
    assert otherwise.cache_bytes_peak > again.cache_bytes_peak


@pytest.mark.parametrize(("kept", "message"), [({"storage": "int4"}, "same | int8 | fp8"), ({"offload": 1}, "True")])
def test_what_cannot_be_is_refused_and_changes_nothing(tiny, kept, message):
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3))
    with pytest.raises(tocache.OptionError, match=message.replace("|", r"\|")):
        tocache.enable(model, tocache.FORA(2), **kept)
    tiny.run(model)
    assert tocache.report(model).method == "FORA()"


def test_what_was_enabled_before_comes_back_as_it_was_kept(tiny):
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3), storage="int8")
    tiny.run(model)
    before = tocache.report(model).cache_bytes_peak
    with tocache.enabled(model, tocache.FORA(3)):
        tiny.run(model)
        assert tocache.report(model).cache_bytes_peak > before
    tiny.run(model)
    assert tocache.report(model).cache_bytes_peak == before
