"""Sites that compute single tokens compute the right ones: all of them, one by one, are what the model gives."""

from __future__ import annotations

import torch

import tocache
from tocache.plan import Plan, Policy
from tocache.plan.anatomy import PARALLEL

STEPS = 9  # fewer would be warned of


def test_all_tokens_chosen_one_by_one_are_all_tokens(case):
    pipe = case.make(dtype=torch.float64)
    plain = case.draw(pipe, num_inference_steps=STEPS)
    tocache.enable(pipe, tocache.Uncached())
    with tocache.trace(pipe) as trace:
        case.draw(pipe, num_inference_steps=STEPS)
    plan = trace.plan
    fresh = plan.fresh.copy()
    chosen = [i for i, site in enumerate(plan.sites) if site.rows and site.kind != PARALLEL]
    for number, anatomy in enumerate(plan.anatomies):
        for i in chosen:
            fresh[1:, number, i] = anatomy.tokens(plan.sites[i])
    tocache.enable(pipe, Plan(plan.anatomies, fresh, Policy(scores={"norm": 1.0}), "every token chosen"))
    with tocache.trace(pipe) as again:
        cached = case.draw(pipe, num_inference_steps=STEPS)
    assert len(again.choices) >= (STEPS - 1) * len(chosen) > 0
    torch.testing.assert_close(cached, plain, rtol=case.close, atol=case.close)
