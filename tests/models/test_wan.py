"""What is special about Wan under the cache: a time for every token, two transformers in one pipeline."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

import tocache
from tocache.plan import Plan, Policy, lifetimes

from .miniatures.wan import WAN, WAN_2_2, wan_transformer


@pytest.mark.parametrize("expand", [False, True], ids=["one time", "a time for every token"])
def test_all_tokens_chosen_one_by_one_are_all_tokens(expand: bool) -> None:
    pipe = WAN.make(expand_timesteps=expand)
    plain = WAN.draw(pipe)
    tocache.enable(pipe, tocache.Uncached())
    with tocache.trace(pipe) as trace:
        WAN.draw(pipe)
    plan = trace.plan
    fresh = plan.fresh.copy()
    for i, site in enumerate(plan.sites):
        if site.rows:
            fresh[1:, :, i] = plan.anatomies[0].tokens(site)
    tocache.enable(pipe, Plan(plan.anatomies, fresh, Policy(scores={"norm": 1.0}), "every token chosen"))
    with tocache.trace(pipe) as chosen:
        cached = WAN.draw(pipe)
    assert len(chosen.choices) == (WAN.steps - 1) * 2 * 4  # steps, passes, sites
    torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("expand", [False, True], ids=["one time", "a time for every token"])
def test_norms_see_the_fresh_tokens_alone_unless_every_token_has_a_time(expand: bool) -> None:
    pipe = WAN.make(expand_timesteps=expand)
    seen: dict[str, list[int]] = {}  # by module: the tokens of each of its calls

    def note(name: str, module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(name, []).append(arguments[0].shape[1])

    for name in ("norm1", "attn1", "norm2", "attn2", "norm3", "ffn"):
        pipe.transformer.blocks[1].get_submodule(name).register_forward_pre_hook(partial(note, name))
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    with tocache.trace(pipe) as trace:
        WAN.draw(pipe, guidance_scale=1.0)
    index, tokens = trace.plan.anatomies[0].index, trace.plan.anatomies[0].shape.tokens["image"]
    step = 3  # the first that is not full
    fresh = int(trace.plan.fresh[step, 0, index["blocks.1.ffn"]])
    assert 1 < fresh < tokens
    assert seen["ffn"][step] == seen["attn2"][step] == fresh
    assert [seen[norm][step] for norm in ("norm1", "norm2", "norm3")] == ([tokens] * 3 if expand else [1, fresh, fresh])
    assert len(seen["attn1"]) == WAN.steps - trace.plan.fresh[:, 0, index["blocks.1.attn1"]].tolist().count(0)


def steps_of_each(pipe: Any, **options: Any) -> list[int]:
    """How many forwards each transformer makes in one run."""
    calls: list[torch.nn.Module] = []
    transformers = (pipe.transformer, pipe.transformer_2)
    hooks = [t.register_forward_pre_hook(lambda module, _: calls.append(module)) for t in transformers]
    WAN_2_2.draw(pipe, **options)
    for hook in hooks:
        hook.remove()
    return [sum(module is t for module in calls) for t in transformers]


def served_in(pipe: Any, steps: slice, policy: Policy) -> Plan:
    """A plan for the pipeline's usual run in which these steps are served, and all others full."""
    tocache.enable(pipe, tocache.Uncached())
    with tocache.trace(pipe) as trace:
        WAN_2_2.draw(pipe)
    fresh = trace.plan.fresh.copy()
    fresh[steps] = 0
    return Plan(trace.plan.anatomies, fresh, policy, f"steps {steps} served")


@pytest.mark.parametrize("method", [tocache.ToCa(3, 0.3), tocache.FORA(4), tocache.TaylorSeer(4)], ids=lambda m: m.name)
def test_the_step_in_which_the_second_transformer_begins_is_full(method: tocache.Method) -> None:
    pipe = WAN_2_2.make()
    first, second = steps_of_each(pipe, guidance_scale=1.0)
    assert min(first, second) > 3
    assert first + second == WAN_2_2.steps
    tocache.enable(pipe, method)
    with tocache.trace(pipe) as trace:
        WAN_2_2.draw(pipe)
    report = tocache.report(pipe)
    assert trace.plan.kind_of_step(first) == "full"
    assert report.overruled == 0
    assert report.flops_computed == report.flops_planned
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.steps_by_kind["full"] < WAN_2_2.steps


@pytest.mark.parametrize("boundary", [0.97, 0.75, 0.4])
@pytest.mark.parametrize(
    "method",
    [tocache.ToCa(3, 0.3), tocache.TaylorSeer(4, order=2), tocache.ToCa(4, 0.3, scores={"drift": 1.0})],
    ids=["toca", "taylorseer", "drift"],
)
def test_the_bytes_are_those_planned_wherever_the_second_begins(method: tocache.Method, boundary: float) -> None:
    pipe = WAN_2_2.make()
    pipe.register_to_config(boundary_ratio=boundary)
    alone = WAN.make()
    for each in (pipe, alone):
        tocache.enable(each, method)
    WAN.draw(alone)
    WAN_2_2.draw(pipe)
    report, foreseen = tocache.report(pipe), tocache.report(alone).cache_bytes_planned
    assert 0 < report.cache_bytes_peak == report.cache_bytes_planned
    assert foreseen is not None
    assert report.cache_bytes_planned <= foreseen  # what `tocache plan` says, which knows of no second transformer


def test_what_was_kept_for_a_step_that_is_taken_over_is_counted() -> None:
    """The only step that would have been served is the first of the second transformer."""
    pipe = WAN_2_2.make()
    first, _ = steps_of_each(pipe, guidance_scale=1.0)
    plan = served_in(pipe, slice(first, first + 1), Policy())
    tocache.enable(pipe, plan)
    WAN_2_2.draw(pipe)
    report = tocache.report(pipe)
    assert report.steps_by_kind == {"full": WAN_2_2.steps}
    assert report.cache_bytes_peak == report.cache_bytes_planned == lifetimes(plan).peak_bytes > 0


def test_nothing_of_the_first_transformer_reaches_the_second() -> None:
    """What the second is asked for is what it would be asked for if nothing had been cached before its first step."""
    pipe = WAN_2_2.make()
    first, _ = steps_of_each(pipe, guidance_scale=1.0)
    tocache.enable(pipe, served_in(pipe, slice(first, None), Policy(scores={"norm": 1.0})))
    seen: list[torch.Tensor] = []
    hook = pipe.transformer_2.blocks[1].attn1.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    cached = WAN_2_2.draw(pipe)
    hook.remove()
    assert len(seen) == 2  # a conditional and an unconditional pass, in one step
    assert tocache.report(pipe).overruled == 0
    with torch.no_grad():
        for parameter in pipe.transformer_2.parameters():
            parameter.zero_()
    assert not torch.equal(WAN_2_2.draw(pipe), cached)


def test_a_second_transformer_that_is_assigned_or_taken_away_is_followed() -> None:
    pipe = WAN_2_2.make()
    tocache.enable(pipe, tocache.FORA(3))
    before, old = WAN_2_2.draw(pipe), pipe.transformer_2
    pipe.transformer_2 = WAN_2_2.make(seed=1).transformer_2
    assert not torch.equal(WAN_2_2.draw(pipe), before)
    assert tocache.report(pipe).steps_by_kind["reuse"] > 0
    assert "_tocache" not in vars(old)
    pipe.transformer_2 = old
    assert torch.equal(WAN_2_2.draw(pipe), before)
    pipe.transformer_2 = None
    assert "_tocache" not in vars(old)
    assert "_tocache" in vars(pipe.transformer)
    pipe.transformer_2 = old
    tocache.disable(pipe)
    assert "_tocache" not in vars(old)
    assert "_tocache" not in vars(old.blocks[0].attn1)


def test_two_transformers_that_are_not_built_alike_are_refused() -> None:
    pipe = WAN_2_2.make()
    pipe.transformer_2 = wan_transformer(num_layers=3)
    with pytest.raises(tocache.AttachError, match="not built alike"):
        tocache.enable(pipe)
    assert "_tocache" not in vars(pipe.transformer)
