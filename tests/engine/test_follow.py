"""Following a pipeline by its scheduler: solvers that call the model twice, runs that begin in the middle, …"""

from __future__ import annotations

import warnings

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
)

import tocache
from tocache.demo.random_pipelines import random_class_pipeline, random_text_pipeline

SIZE = {"depth": 2, "hidden": 16, "heads": 2, "sample_size": 8}


def class_pipe(seed: int = 0):
    pipe = random_class_pipeline(seed, **SIZE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, steps: int = 12, **options) -> torch.Tensor:
    options |= {"generator": torch.Generator().manual_seed(0), "num_inference_steps": steps, "output_type": "pt"}
    return torch.as_tensor(pipe([3], **options).images)


def draw_text(pipe, steps: int) -> torch.Tensor:
    arguments = {"num_inference_steps": steps, "output_type": "latent", "height": 64, "width": 64}
    arguments |= {"use_resolution_binning": False, "clean_caption": False}
    return pipe("a circle", generator=torch.Generator().manual_seed(0), **arguments).images


@pytest.mark.parametrize(
    ("scheduler", "options", "steps", "calls"),
    [
        (HeunDiscreteScheduler, {}, 8, 15),
        (KDPM2DiscreteScheduler, {}, 8, 15),
        (PNDMScheduler, {"skip_prk_steps": True}, 8, 9),
        (PNDMScheduler, {"skip_prk_steps": False}, 8, 17),
        (EulerDiscreteScheduler, {}, 12, 12),
        (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}, 12, 12),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_step_is_a_call_of_the_model_however_the_solver_counts(scheduler, options, steps, calls):
    pipe = random_text_pipeline(**SIZE)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **options)
    plain = draw_text(pipe, steps)
    forwards = []
    pipe.transformer.register_forward_hook(lambda *_: forwards.append(1))
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(draw_text(pipe, steps), plain)
    assert len(forwards) == calls
    tocache.enable(pipe, tocache.FORA(3))
    assert not torch.equal(draw_text(pipe, steps), plain)
    report = tocache.report(pipe)
    assert report.steps == calls
    assert report.passes == 1
    assert report.overruled == 0
    # PixArt's FORA: full where the number of the step is a multiple of 3
    assert report.steps_by_kind == {"full": len(range(0, calls, 3)), "reuse": calls - len(range(0, calls, 3))}


def by_hand(pipe, scheduler_steps: int, begin: int = 0) -> list[torch.Tensor]:
    """What img2img does: a loop over the last timesteps of the pipeline's scheduler."""
    scheduler, latents = pipe.scheduler, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(scheduler_steps)
    if begin:
        scheduler.set_begin_index(begin)
    outputs = []
    for t in scheduler.timesteps[begin:]:
        with torch.no_grad():
            noise = pipe.transformer(latents, timestep=t[None], class_labels=torch.tensor([3])).sample
        outputs.append(noise)
        latents = scheduler.step(noise[:, :4], t, latents, return_dict=False)[0]
    return outputs


def test_a_run_that_begins_in_the_middle_has_a_plan_for_the_rest():
    pipe = class_pipe()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    tocache.enable(pipe, tocache.FORA(3))
    outputs = by_hand(pipe, 20, begin=8)
    report = tocache.report(pipe)
    assert report.steps == len(outputs) == 12
    assert report.plan.steps == 12
    assert report.overruled == 0
    by_hand(pipe, 20)
    assert tocache.report(pipe).plan.steps == 20


def test_a_loop_that_never_steps_the_scheduler_is_computed_whole_and_warned_of_once():
    pipe = class_pipe()

    def loop() -> list[torch.Tensor]:
        pipe.scheduler.set_timesteps(12)
        latents, outputs = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), []
        for t in pipe.scheduler.timesteps:
            with torch.no_grad():
                outputs.append(pipe.transformer(latents, timestep=t[None], class_labels=torch.tensor([3])).sample)
            latents = latents - 0.1 * outputs[-1][:, :4]
        return outputs

    plain = loop()
    tocache.enable(pipe, tocache.FORA(3))
    with pytest.warns(tocache.TocacheWarning, match="no scheduler step was seen between them") as caught:
        outputs = loop() + loop()
    assert len(caught) == 1
    assert all(torch.equal(got, want) for got, want in zip(outputs, plain * 2, strict=True))
    assert tocache.report(pipe).speedup == pytest.approx(1.0)


def test_more_steps_than_announced_are_computed_whole():
    pipe = class_pipe()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    x = {"timestep": torch.tensor([500]), "class_labels": torch.tensor([3])}
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = pipe.transformer(latents, **x).sample
        tocache.enable(pipe.transformer, tocache.FORA(3))
        with tocache.run(pipe.transformer, timesteps=9, cfg=None) as run:
            for _ in range(9):
                pipe.transformer(torch.zeros_like(latents), **x)
                run.step()
            with pytest.warns(tocache.TocacheWarning, match="more than the 9 steps announced"):
                assert torch.equal(pipe.transformer(latents, **x).sample, plain)


def test_a_scheduler_of_ones_own_is_followed_by_its_two_methods():
    class Half:
        order = 1
        init_noise_sigma = 1.0
        config = DDIMScheduler().config

        def set_timesteps(self, count, device=None):
            self.timesteps = torch.linspace(999, 0, count).long()

        def scale_model_input(self, x, t=None):
            return x

        def step(self, noise, t, x):
            return type("Output", (), {"prev_sample": x - 0.05 * noise})

    pipe = class_pipe()
    pipe.register_modules(scheduler=Half())
    plain = draw(pipe)
    tocache.enable(pipe, tocache.FORA(3))
    assert not torch.equal(draw(pipe), plain)
    assert tocache.report(pipe).steps == 12
    tocache.disable(pipe)
    assert type(pipe.scheduler) is Half


class TestSharedSchedulers:
    def test_two_pipelines_with_one_scheduler_do_not_step_each_other(self):
        one, other = class_pipe(0), class_pipe(1)
        other.scheduler = one.scheduler
        alone = []
        for pipe in (one, other):
            tocache.enable(pipe, tocache.FORA(3))
            alone.append(draw(pipe))
            tocache.disable(pipe)
        tocache.enable(one, tocache.FORA(3))
        tocache.enable(other, tocache.FORA(3))
        assert torch.equal(draw(one), alone[0])
        assert torch.equal(draw(other), alone[1])
        tocache.disable(one)
        assert torch.equal(draw(other), alone[1])
        tocache.disable(other)
        assert type(one.scheduler) is DDIMScheduler

    def test_the_report_of_one_outlives_a_run_of_the_other(self):
        one, other = class_pipe(0), class_pipe(1)
        other.scheduler = one.scheduler
        for pipe in (one, other):
            tocache.enable(pipe, tocache.FORA(3))
        draw(one)
        draw(other, 15)
        assert (tocache.report(one).steps, tocache.report(other).steps) == (12, 15)


def test_timesteps_that_are_only_looked_at_begin_no_run():
    pipe = class_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    draw(pipe)
    pipe.scheduler.set_timesteps(5)
    assert tocache.report(pipe).steps == 12


def test_a_call_that_the_pipeline_itself_refuses_is_refused_in_its_own_words():
    pipe = class_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    with pytest.raises(TypeError, match="prompt"):
        pipe(prompt="a circle")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(pipe)


def test_a_pipeline_made_of_the_same_components_uses_the_cache_without_harm():
    pipe = class_pipe()
    plain = draw(pipe)
    tocache.enable(pipe, tocache.Uncached())
    twin = type(class_pipe())(**pipe.components)
    twin.set_progress_bar_config(disable=True)
    assert torch.equal(draw(twin), plain)
    tocache.disable(pipe)
    assert torch.equal(draw(twin), plain)


def test_a_scheduler_made_by_the_class_of_a_followed_one_is_plain_in_the_end():
    """`type(pipe.scheduler).from_config(…)` is how many programs change a scheduler's settings."""
    pipe = class_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    cached = draw(pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    assert torch.equal(draw(pipe), cached)
    tocache.disable(pipe)
    assert type(pipe.scheduler) is DDIMScheduler
