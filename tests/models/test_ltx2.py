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


def test_what_follows_a_skipped_self_attention_is_computed() -> None:
    pipe = LTX2.make(perturbed_attn=True)
    plain = sound(pipe)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(sound(pipe), plain)
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    with pytest.warns(tocache.TocacheWarning, match=r"transformer_blocks\.1\.(audio_)?attn1 does not call"):
        assert torch.isfinite(sound(pipe)).all()
    report = tocache.report(pipe)
    assert report.overruled > 0
    skipped = {i for i, site in enumerate(report.plan.sites) if site.block == 1 and site.self_map is not None}
    partial = (report.plan.amounts[:, 1] > 0).any(axis=0)
    assert skipped <= {i for i in range(len(partial)) if partial[i]}


def test_a_pass_of_streams_apart_skips_what_is_between_them() -> None:
    pipe = LTX2.make()
    tocache.enable(pipe, tocache.FORA(3))
    sound(pipe)
    _, perturbed, isolated = tocache.report(pipe).plan.anatomies
    between = [i for i, site in enumerate(isolated.sites) if "_to_" in site.name]
    assert len(between) == 2 * len(pipe.transformer.transformer_blocks)
    assert all(isolated.costs[i].full == 0 < perturbed.costs[i].full for i in between)
    assert all(isolated.tokens(isolated.sites[i]) == 0 for i in between)
