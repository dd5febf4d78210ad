"""LTX-2's sound, and its guidance by skipped self-attention."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import tocache

from .miniatures.ltx2 import CASES

LTX2, *_ = CASES
STEPS = 9

pytestmark = pytest.mark.skipif(not hasattr(diffusers, "LTX2Pipeline"), reason="this diffusers has no LTX-2")


def sound(pipe: Any) -> torch.Tensor:
    drawn = pipe("a red circle", generator=torch.Generator().manual_seed(0), num_inference_steps=STEPS, **LTX2.call)
    return torch.as_tensor(drawn.audio)


def test_the_sound_is_cached_and_comes_back() -> None:
    pipe = LTX2.make()
    plain = sound(pipe)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(sound(pipe), plain)
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    with tocache.trace(pipe) as trace:
        cached = sound(pipe)
    assert not torch.equal(cached, plain)
    assert {site for _, _, site in trace.choices if "audio" in site} >= {"transformer_blocks.0.audio_ff"}
    # the scheduler's copy has ticked nothing
    assert tocache.report(pipe).steps == STEPS
    tocache.disable(pipe)
    assert torch.equal(sound(pipe), plain)


def skipped(pipe: Any) -> set[str]:
    """The sites of the block whose self-attention the second pass skips that this attention would rank."""
    plan = tocache.report(pipe).plan
    return {site.name for site in plan.sites if site.block == 1 and site.self_map is not None}


def test_where_self_attention_is_skipped_all_tokens_have_one_influence_and_take_turns() -> None:
    pipe = LTX2.make(perturbed_attn=True)
    plain = sound(pipe)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(sound(pipe), plain)
    tocache.enable(pipe, tocache.ToCa(4, 0.3))
    with tocache.trace(pipe) as trace:
        assert torch.isfinite(sound(pipe)).all()
    report = tocache.report(pipe)
    assert report.overruled == 0
    assert report.flops_computed == report.flops_planned
    assert report.cache_bytes_peak == report.cache_bytes_planned
    chosen = {(step, name): index for (step, number, name), index in trace.choices.items() if number == 1}
    assert {name for _, name in chosen} >= skipped(pipe)
    for name in skipped(pipe):
        first, second, *_ = (index for (_, at), index in sorted(chosen.items()) if at == name)
        tokens = trace.plan.anatomies[1].tokens(trace.plan.sites[trace.plan.anatomies[1].index[name]])
        # of equal tokens the first ones, and then those that were not computed yet
        assert first[0].tolist() == list(range(first.shape[1]))
        assert second[0].tolist() == [n % tokens for n in range(first.shape[1], first.shape[1] + second.shape[1])]


def test_what_follows_a_skipped_self_attention_is_computed_where_its_values_are_asked_for() -> None:
    pipe = LTX2.make(perturbed_attn=True)
    tocache.enable(pipe, tocache.ToCa(3, 0.3, scores={"value-norm": 1.0}))
    with pytest.warns(tocache.TocacheWarning, match=r"transformer_blocks\.1\.(audio_)?attn1 does not call"):
        assert torch.isfinite(sound(pipe)).all()
    report = tocache.report(pipe)
    assert report.overruled > 0
    partial = (report.plan.amounts[:, 1] > 0).any(axis=0)
    assert skipped(pipe) <= {site.name for site, some in zip(report.plan.sites, partial, strict=True) if some}


def test_a_pass_of_streams_apart_skips_what_is_between_them() -> None:
    pipe = LTX2.make()
    tocache.enable(pipe, tocache.FORA(3))
    sound(pipe)
    _, perturbed, isolated = tocache.report(pipe).plan.anatomies
    between = [i for i, site in enumerate(isolated.sites) if "_to_" in site.name]
    assert len(between) == 2 * len(pipe.transformer.transformer_blocks)
    assert all(isolated.costs[i].full == 0 < perturbed.costs[i].full for i in between)
    assert all(isolated.tokens(isolated.sites[i]) == 0 for i in between)
