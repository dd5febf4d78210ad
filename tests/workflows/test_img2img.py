"""Runs that begin in the middle of the schedule: a picture is given, and `strength` says how much of it is redrawn."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline
from PIL import Image

import tocache

from ..models.miniatures import cogvideox, wan
from .pipelines import PARTIAL, STEPS, check_workflow, draw_flux, flux_pipe, quiet


def given() -> dict[str, Any]:
    """A picture, and a mask of its right half."""
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    return {"image": picture, "mask_image": mask}


def pipe_of(kind: type) -> Any:
    return quiet(kind(**flux_pipe().components))


def draw(pipe: Any, steps: int = 20, strength: float = 0.5, **options: Any) -> torch.Tensor:
    picture = given()
    if isinstance(pipe, FluxImg2ImgPipeline):
        del picture["mask_image"]
    return draw_flux(pipe, steps, strength=strength, **picture | options)


@pytest.mark.parametrize("kind", [FluxImg2ImgPipeline, FluxInpaintPipeline])
def test_the_plan_is_of_the_steps_that_are_made(kind: type) -> None:
    counted = check_workflow(pipe_of(kind), draw, steps=10)
    assert counted.plan.kind_of_step(0) == "full"


def test_another_strength_is_another_plan() -> None:
    pipe = pipe_of(FluxImg2ImgPipeline)
    tocache.enable(pipe, PARTIAL)
    half = draw(pipe)
    draw(pipe, strength=0.8)
    assert tocache.report(pipe).plan.steps == 16
    draw(pipe, strength=1.0)
    assert tocache.report(pipe).plan.steps == 20
    assert torch.equal(draw(pipe), half)


def test_its_times_are_those_from_where_it_begins() -> None:
    pipe = pipe_of(FluxImg2ImgPipeline)
    tocache.enable(pipe, tocache.TaylorSeer(3))
    draw(pipe)
    times = tocache.report(pipe).plan.anatomies[0].times
    assert list(times) == pipe.scheduler.timesteps[10:].tolist()


def test_the_kept_part_of_an_inpainted_picture_is_as_given() -> None:
    """Whatever is cached: the pipeline puts the given latents back in place after each step."""
    pipe = pipe_of(FluxInpaintPipeline)
    plain = draw(pipe)
    tocache.enable(pipe, PARTIAL)
    cached = draw(pipe)
    left, right = (side.reshape(1, 4, 2, 2, -1) for side in (plain, cached))
    assert torch.equal(left[:, :, 0], right[:, :, 0])
    assert not torch.equal(left[:, :, 1], right[:, :, 1])


def test_true_guidance_in_the_middle_of_the_schedule_has_two_passes() -> None:
    options = {"true_cfg_scale": 2.0, "negative_prompt": "sea"}
    counted = check_workflow(pipe_of(FluxImg2ImgPipeline), lambda p: draw(p, **options), steps=10, passes=2)
    assert all(len(calls) % 2 == 0 for step in counted.calls for calls in step.values())


def test_a_strength_that_leaves_no_step_is_refused_in_the_pipelines_own_words() -> None:
    pipe = pipe_of(FluxImg2ImgPipeline)
    tocache.enable(pipe, PARTIAL)
    with pytest.raises(ValueError, match="not appropriate for this pipeline"):
        draw(pipe, strength=0.0)
    assert draw(pipe, STEPS * 2).isfinite().all()


@pytest.mark.parametrize("which", ["wan", "cogvideox"])
def test_videos_that_enter_the_schedule_without_telling_the_scheduler(which: str) -> None:
    """The pipelines cut the timesteps themselves; at which of them they are, they note on themselves."""
    name = {"wan": "WanVideoToVideoPipeline", "cogvideox": "CogVideoXVideoToVideoPipeline"}[which]
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    base, call = (wan.wan(), wan.CALL) if which == "wan" else (cogvideox.cogvideox(), cogvideox.CALL)
    parts = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
    pipe = quiet(getattr(diffusers, name)(**{name: part for name, part in base.components.items() if name in parts}))
    frames = [Image.new("RGB", (64, 64), (20 * i, 0, 0)) for i in range(9)]
    arguments: dict[str, Any] = {name: value for name, value in call.items() if name != "num_frames"}
    arguments |= {"video": frames, "prompt": "a red circle", "guidance_scale": 1.0, "num_inference_steps": 20}
    tocache.enable(pipe, tocache.TaylorSeer(3))
    for strength, steps in ((0.6, 12), (1.0, 20), (0.6, 12)):
        pipe(**arguments, strength=strength, generator=torch.Generator().manual_seed(0))
        report = tocache.report(pipe)
        assert report.plan.steps == report.steps == steps
        assert list(report.plan.anatomies[0].times) == [float(time) for time in pipe.scheduler.timesteps[-steps:]]
