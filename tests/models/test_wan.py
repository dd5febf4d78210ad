"""What is special about Wan under the cache: a time for every token."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import tocache
from tocache.plan import Plan, Policy

from .miniatures.wan import WAN


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
