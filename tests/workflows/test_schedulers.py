"""Solvers of every kind: how many steps a run has, and that the plan's steps are the model's calls."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import tocache

from .pipelines import check_workflow, class_pipe, draw_class, draw_flux, draw_text, flux_pipe, text_pipe

# name, options, steps asked for, calls of the model
DIFFUSION = [
    ("DDIMScheduler", {}, 10, 10),
    ("DDPMScheduler", {}, 10, 10),
    ("DPMSolverSinglestepScheduler", {}, 10, 10),
    ("DPMSolverSinglestepScheduler", {"solver_order": 3}, 10, 10),
    ("DPMSolverMultistepScheduler", {}, 10, 10),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 10, 10),
    ("UniPCMultistepScheduler", {}, 10, 10),
    ("DEISMultistepScheduler", {}, 10, 10),
    ("EulerDiscreteScheduler", {}, 10, 10),
    ("EulerAncestralDiscreteScheduler", {}, 10, 10),
    ("LMSDiscreteScheduler", {}, 10, 10),
    ("HeunDiscreteScheduler", {}, 6, 11),
    ("KDPM2DiscreteScheduler", {}, 6, 11),
    ("KDPM2AncestralDiscreteScheduler", {}, 6, 11),
    ("PNDMScheduler", {"skip_prk_steps": True}, 9, 10),
    ("PNDMScheduler", {"skip_prk_steps": False}, 8, 17),
    ("LCMScheduler", {}, 10, 10),
    ("DDIMParallelScheduler", {}, 10, 10),
]
FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "time_shift_type": "exponential"}
FLOW = [
    ("FlowMatchEulerDiscreteScheduler", {}, 10, 10),
    ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, 10, 10),
    ("FlowMatchLCMScheduler", {}, 10, 10),
    ("UniPCMultistepScheduler", FLOW_SIGMAS, 10, 10),
    ("DPMSolverMultistepScheduler", FLOW_SIGMAS, 10, 10),
]


def scheduler_of(pipe: Any, name: str, options: dict[str, Any]) -> Any:
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    return getattr(diffusers, name).from_config(pipe.scheduler.config, **options)


def ids(value: object) -> str:
    return str(value).removesuffix("Scheduler").replace("DiscreteScheduler", "")


@pytest.mark.parametrize(("name", "options", "steps", "calls"), DIFFUSION, ids=ids)
def test_text_to_image(name: str, options: dict[str, Any], steps: int, calls: int) -> None:
    pipe = text_pipe()
    pipe.scheduler = scheduler_of(pipe, name, options)
    check_workflow(pipe, lambda p: draw_text(p, steps), steps=calls)


@pytest.mark.parametrize(("name", "options", "steps", "calls"), FLOW, ids=ids)
def test_flow_matching(name: str, options: dict[str, Any], steps: int, calls: int) -> None:
    pipe = flux_pipe()
    pipe.scheduler = scheduler_of(pipe, name, options)
    check_workflow(pipe, lambda p: draw_flux(p, steps), steps=calls)


def test_flow_matching_with_two_calls_per_step() -> None:
    """By hand: FLUX's pipeline gives its scheduler sigmas of its own, which Heun's does not take."""
    pipe = flux_pipe()
    pipe.scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0)
    ids = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), dim=-1)
    embeds, pooled, text_ids = pipe.encode_prompt("a red circle", None, max_sequence_length=16)

    def draw(pipe: Any) -> torch.Tensor:
        pipe.scheduler.set_timesteps(6)
        latents = torch.randn(1, 16, 16)
        for t in pipe.scheduler.timesteps:
            velocity = pipe.transformer(
                latents,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                timestep=t.expand(1) / 1000,
                guidance=torch.tensor([3.5]),
                img_ids=ids.reshape(-1, 3),
                txt_ids=text_ids,
            ).sample
            latents = pipe.scheduler.step(velocity, t, latents).prev_sample
        return latents

    with torch.no_grad():
        counted = check_workflow(pipe, draw, steps=11)
    # two calls at one time are two steps, so a forecast may not go by the times
    assert counted.plan.anatomies[0].times == ()


def test_a_learned_variance_is_cached_with_the_noise() -> None:
    """DDPM draws with the variance that DiT predicts beside the noise."""
    pipe = class_pipe()
    pipe.scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    check_workflow(pipe, draw_class)


def test_a_solver_exchanged_between_two_pictures() -> None:
    pipe = text_pipe()
    multistep = pipe.scheduler
    tocache.enable(pipe, tocache.ToCa(3, 0.3))
    before = draw_text(pipe)
    pipe.scheduler = diffusers.HeunDiscreteScheduler.from_config(multistep.config)
    draw_text(pipe, 6)
    assert tocache.report(pipe).plan.steps == 11
    pipe.scheduler = multistep
    assert torch.equal(draw_text(pipe), before)
