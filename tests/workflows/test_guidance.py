"""Classifier-free guidance in each of its forms, and guidance that changes during a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache

from .pipelines import (
    PARTIAL,
    STEPS,
    check_workflow,
    class_pipe,
    counting,
    draw_class,
    draw_flux,
    draw_text,
    flux_pipe,
    seeded,
    text_pipe,
)

TRUE_CFG = {"true_cfg_scale": 2.0, "negative_prompt": "sea"}


@pytest.mark.parametrize(
    ("make", "draw", "scale", "rows"),
    [
        (class_pipe, draw_class, 4.0, 2),
        (class_pipe, draw_class, 1.0, 1),
        (text_pipe, draw_text, 4.5, 2),
        (text_pipe, draw_text, 1.0, 1),
        (flux_pipe, draw_flux, 3.5, 1),
    ],
    ids=["dit", "dit-1", "pixart", "pixart-1", "flux"],
)
def test_in_one_batch_or_none(make: Any, draw: Any, scale: float, rows: int) -> None:
    pipe = make()
    counted = check_workflow(pipe, lambda p: draw(p, guidance_scale=scale))
    assert tocache.report(pipe).rows == rows
    assert (counted.plan.anatomies[0].shape.halves is None) == (rows == 1)


@pytest.mark.parametrize(("options", "passes"), [(TRUE_CFG, 2), (TRUE_CFG | {"true_cfg_scale": 1.0}, 1)])
def test_in_two_passes(options: dict[str, Any], passes: int) -> None:
    check_workflow(flux_pipe(), lambda p: draw_flux(p, **options), passes=passes)


def loop(pipe: Any, guided: Any, steps: int = STEPS) -> torch.Tensor:
    """Denoises in two passes, of which the second is made in the steps that `guided` names."""
    embeds, pooled, text_ids = pipe.encode_prompt(["a red circle", "sea"], None, max_sequence_length=16)
    ids = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), dim=-1)
    pipe.scheduler.set_timesteps(steps, mu=0.5)
    latents = torch.randn(1, 16, 16, generator=seeded()[0])
    for step, t in enumerate(pipe.scheduler.timesteps):
        velocities = [
            pipe.transformer(
                latents,
                encoder_hidden_states=embeds[n : n + 1],
                pooled_projections=pooled[n : n + 1],
                timestep=t.expand(1) / 1000,
                guidance=torch.tensor([3.5]),
                img_ids=ids.reshape(-1, 3),
                txt_ids=text_ids,
            ).sample
            for n in range(1 + (step in guided))
        ]
        velocity = velocities[0] + sum(velocities[1:], torch.zeros(1)) * 0.1
        latents = pipe.scheduler.step(velocity, t, latents).prev_sample
    return latents


@pytest.mark.parametrize("guided", [range(5), range(3, 8), range(5, STEPS)], ids=str)
@torch.no_grad()
def test_guidance_in_an_interval_of_the_steps(guided: Any) -> None:
    pipe = flux_pipe()
    plain = loop(pipe, guided)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(loop(pipe, guided), plain)
    tocache.enable(pipe, PARTIAL)
    cached = loop(pipe, guided)
    assert cached.isfinite().all()
    assert not torch.equal(cached, plain)
    assert torch.equal(loop(pipe, guided), cached)


@torch.no_grad()
def test_a_pass_that_pauses_serves_nothing_that_should_have_been_renewed() -> None:
    """FORA(3) renews at the steps 0, 3, 6, …; the second pass is not made in 2 … 6, and must not serve step 0's."""
    pipe = flux_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    guided = [0, 1, 7, 8, 9]
    with counting(pipe) as counted:
        loop(pipe, guided)
    plan = counted.plan
    fulls = [step for step in range(STEPS) if plan.kind_of_step(step) == "full"]
    assert any(2 <= step <= 6 for step in fulls)
    name = "transformer_blocks.0.ff"
    calls = [len(step.get(name, [])) for step in counted.calls]
    expected = [(step in fulls) * (1 + (step in guided)) for step in range(STEPS)]
    expected[7] += 7 not in fulls  # the second pass begins anew
    assert calls == expected
    assert tocache.report(pipe).overruled > 0


def test_guidance_switched_off_by_a_callback_leaves_one_pass() -> None:
    """Pipelines ask `guidance_scale` anew in each step; Open-Sora's lets a callback lower it."""
    from tocache.demo.random_video import random_video_pipeline

    pipe = random_video_pipeline(depth=1)
    pipe.set_progress_bar_config(disable=True)

    def lower(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            pipe._guidance_scale = 0.5
        return tensors

    small: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "clean_caption": False}
    small |= {"output_type": "latent", "num_inference_steps": STEPS, "callback_on_step_end": lower}

    def draw(pipe: Any) -> torch.Tensor:
        return torch.as_tensor(pipe("a red circle", generator=seeded()[0], **small).frames)

    plain = draw(pipe)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(draw(pipe), plain)
    tocache.enable(pipe, tocache.FORA(3))
    cached = draw(pipe)
    assert cached.isfinite().all()
    assert tocache.report(pipe).steps == STEPS
    assert torch.equal(draw(pipe), cached)
