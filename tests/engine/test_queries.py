"""Influence from a sample of the queries: near the exact one, the same for any batch, and as dear as planned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tocache
from tocache.engine import reading
from tocache.engine.probe import Seen
from tocache.engine.reading import _attend_and_sum
from tocache.kernels import attention_column_sums, attention_with_sums
from tocache.plan import Policy, flops_scores
from tocache.tokens import sample_queries

STEPS = 9
S1 = {"influence": 1.0}
EXACT, SAMPLED = (tocache.ToCa(3, 0.3, ratio="constant", scores=S1, queries=share) for share in (1.0, 0.25))
TEXT, IMAGE = 6, 24


def tensors(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query, key, value = 2 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    return query, key, value


def in_float64(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """(rows, keys) the sums of the whole map."""
    logits = query.double() @ key.double().transpose(-1, -2) / query.shape[-1] ** 0.5
    logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
    return torch.softmax(logits, dim=-1).nan_to_num(0.0).mean(dim=1).sum(dim=1)


def estimated(share: float, seeds: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """(seeds, rows, keys) float64: sums of an attention of two groups, of each by a sample of its own."""
    query, key, value = tensors(2, 2, TEXT + IMAGE, 8)
    seen = Seen(query, key, value, mask=mask, scale=None, plain=True)
    policy, found = Policy(S1, queries=share), []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        samples = [
            (tokens, sample_queries(tokens, policy.queries_of(tokens), 1, generator=generator)[0])
            for tokens in (TEXT, IMAGE)
        ]
        output, sums = _attend_and_sum(seen, lambda: None, samples)
        assert output is None  # the model's own attention runs
        found.append(sums.double())
    return torch.stack(found)


def test_the_estimate_is_right_on_average_and_better_for_more_queries() -> None:
    exact = in_float64(*tensors(2, 2, TEXT + IMAGE, 8)[:2])
    errors = []
    for share in (0.15, 0.3, 0.6):
        sums = estimated(share, 400)
        deviation = sums.std(dim=0) / 400**0.5
        assert ((sums.mean(dim=0) - exact).abs() < 5 * deviation + 1e-5).all()
        errors.append(float((sums - exact).pow(2).mean().sqrt()))
    assert errors[0] > 1.2 * errors[1] > 1.44 * errors[2]
    torch.testing.assert_close(estimated(1.0, 1)[0], exact, rtol=1e-5, atol=1e-5)


def test_padding_asks_for_nothing_and_gets_nothing() -> None:
    mask = torch.ones(2, 1, 1, TEXT + IMAGE, dtype=torch.bool)
    mask[1, ..., 2:TEXT] = False  # the second row's text is shorter
    exact = in_float64(*tensors(2, 2, TEXT + IMAGE, 8)[:2], mask & mask.transpose(2, 3))
    sums = estimated(0.5, 400, mask)
    assert (sums[:, 1, 2:TEXT] == 0).all()
    assert ((sums.mean(dim=0) - exact).abs() < 5 * sums.std(dim=0) / 400**0.5 + 1e-5).all()


def chosen(model: Any, inputs: list[dict[str, Any]]) -> tuple[list[torch.Tensor], dict[Any, torch.Tensor]]:
    """The outputs of a run, and its choices by step, pass and site."""
    outputs = []
    with torch.no_grad(), tocache.trace(model) as seen, tocache.run(model, timesteps=STEPS, cfg=None) as run:
        for given in inputs:
            outputs.append(model(**given)[0])
            run.step()
    return outputs, dict(seen.choices)


def joined(one: Any, other: Any) -> Any:
    return torch.cat([one, other]) if isinstance(one, torch.Tensor) else one


@pytest.mark.parametrize("family", ["dit", "pixart"])
def test_a_batch_is_its_pictures(tiny_of: Any, family: str) -> None:
    tiny = tiny_of(family)
    model = tiny.build()
    tocache.enable(model, SAMPLED)
    singles = [[tiny.inputs(step, rows=1, who=who) for step in range(STEPS)] for who in (0, 1)]
    batch = [{name: joined(one[name], other[name]) for name in one} for one, other in zip(*singles, strict=True)]
    outputs, choices = chosen(model, batch)
    alone = [chosen(model, inputs) for inputs in singles]
    for key, index in choices.items():
        assert torch.equal(index, torch.cat([own[key] for _, own in alone]))
    for step, output in enumerate(outputs):
        torch.testing.assert_close(output, torch.cat([own[step] for own, _ in alone]), rtol=1e-4, atol=1e-5)


def test_a_run_repeats_its_choices_and_another_seed_makes_others(tiny: Any) -> None:
    model = tiny.build()
    inputs = [tiny.inputs(step) for step in range(STEPS)]
    found = []
    for method in (SAMPLED, SAMPLED, tocache.ToCa(3, 0.3, ratio="constant", scores=S1, queries=0.25, seed=1), EXACT):
        with tocache.enabled(model, method):
            found.append(chosen(model, inputs)[1])
    first, again, *others = found
    assert all(torch.equal(index, again[key]) for key, index in first.items())
    for other in others:
        assert any(not torch.equal(index, other[key]) for key, index in first.items())


def test_a_full_step_gives_what_the_model_gives(tiny: Any) -> None:
    model = tiny.build()
    plain = tiny.forward(model, 0)
    tocache.enable(model, SAMPLED)
    assert torch.equal(tiny.run(model)[0], plain)


def test_scores_cost_what_the_plan_says(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [0]

    def counting(query: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        with FlopCounterMode(display=False) as counter:
            sums = attention_column_sums(query, *args, **options)
        channels = query.shape[-1]  # beside them the counter has the sums, which are a product with ones
        counted[0] += counter.get_total_flops() * channels // (channels + 1)
        return sums

    for module in (reading, attention_with_sums):
        monkeypatch.setattr(module, "attention_column_sums", counting)
    model = tiny.build()
    planned = []
    for method in (EXACT, SAMPLED):
        counted[0] = 0
        with tocache.enabled(model, method):
            tiny.run(model)
            plan = tocache.report(model).plan
        assert plan is not None
        assert counted[0] == flops_scores(plan) > 0
        planned.append(counted[0])
    assert 0.2 < planned[1] / planned[0] < 0.3
