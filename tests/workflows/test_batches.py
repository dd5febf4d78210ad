"""Several pictures at once: of one prompt, of different prompts, of texts of different lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache

from .pipelines import (
    PARTIAL,
    check_workflow,
    class_pipe,
    draw_class,
    draw_flux,
    draw_text,
    flux_pipe,
    seeded,
    text_pipe,
)

SHORT, LONG = "sea", "a blue square above a red circle beside a green triangle on a grey field"


@pytest.mark.parametrize(("make", "draw"), [(text_pipe, draw_text), (flux_pipe, draw_flux)], ids=["pixart", "flux"])
def test_pictures_per_prompt(make: Any, draw: Any) -> None:
    pipe = make(dtype=torch.float64)
    check_workflow(pipe, lambda p: draw(p, num_images_per_prompt=2, generator=seeded(0, 1)))
    pair = draw(pipe, num_images_per_prompt=2, generator=seeded(0, 1))
    for n in range(2):
        torch.testing.assert_close(draw(pipe, generator=seeded(n))[0], pair[n], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "method", [PARTIAL, tocache.ToCa(3, 0.3, share="step"), tocache.ClusCa(3), tocache.DuCa(3)], ids=str
)
@pytest.mark.parametrize(("make", "draw"), [(text_pipe, draw_text), (flux_pipe, draw_flux)], ids=["pixart", "flux"])
def test_texts_of_different_lengths(make: Any, draw: Any, method: tocache.Method) -> None:
    """Each picture of a batch is the one that its prompt and seed draw alone, whichever tokens are chosen."""
    pipe = make(dtype=torch.float64)
    tocache.enable(pipe, method)
    both = draw(pipe, prompt=[SHORT, LONG], generator=seeded(0, 1))
    for n, prompt in enumerate((SHORT, LONG)):
        torch.testing.assert_close(draw(pipe, prompt=prompt, generator=seeded(n))[0], both[n], rtol=1e-6, atol=1e-6)


def test_classes() -> None:
    pipe = class_pipe(dtype=torch.float64)
    tocache.enable(pipe, PARTIAL)
    three = draw_class(pipe, seeds=(0, 1, 2))
    for n in range(3):
        torch.testing.assert_close(draw_class(pipe, seeds=(n,))[0], three[n], rtol=1e-6, atol=1e-6)


def test_padding_of_a_text_says_nothing_of_the_tokens_to_choose() -> None:
    """PixArt masks it in cross-attention, and so do the entropies that are read there."""
    pipe = text_pipe()
    tocache.enable(pipe, tocache.ToCa())
    embeds, mask, negative, negative_mask = pipe.encode_prompt(SHORT, clean_caption=False, max_sequence_length=16)
    assert 0 < mask.sum() < mask.numel()

    def draw(embeds: torch.Tensor) -> tuple[torch.Tensor, tocache.Trace]:
        with tocache.trace(pipe) as trace:
            drawn = draw_text(
                pipe,
                prompt=None,
                negative_prompt=None,
                prompt_embeds=embeds,
                prompt_attention_mask=mask,
                negative_prompt_embeds=negative,
                negative_prompt_attention_mask=negative_mask,
            )
        return drawn, trace

    drawn, trace = draw(embeds)
    other, others = draw(torch.where(mask[..., None] > 0, embeds, 100.0))
    assert torch.equal(drawn, other)
    assert trace.choices
    assert trace.plan.policy.scores == {"entropy": 1.0}
    assert all(torch.equal(chosen, others.choices[at]) for at, chosen in trace.choices.items())


def test_more_pictures_than_before_are_another_plan() -> None:
    pipe = text_pipe()
    tocache.enable(pipe, PARTIAL)
    one = draw_text(pipe)
    draw_text(pipe, num_images_per_prompt=3, generator=seeded(0, 1, 2))
    report = tocache.report(pipe)
    assert (report.rows, report.overruled) == (6, 0)
    assert torch.equal(draw_text(pipe), one)
