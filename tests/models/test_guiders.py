"""Families whose guidance is a part of their pipeline, its guider: a pass for each condition that it combines."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

import tocache

from .miniatures.hunyuan_image import CASES

(HUNYUAN_IMAGE,) = CASES

pytestmark = pytest.mark.skipif(not hasattr(diffusers, "HunyuanImagePipeline"), reason="this diffusers has no guiders")


def drawn(pipe: Any, method: tocache.Method) -> tuple[torch.Tensor, Any]:
    tocache.enable(pipe, method)
    picture = HUNYUAN_IMAGE.draw(pipe)
    return picture, tocache.report(pipe)


def test_a_guider_that_is_switched_off_makes_one_pass() -> None:
    pipe = HUNYUAN_IMAGE.make()
    _, guided = drawn(pipe, tocache.FORA(3))
    assert [anatomy.shape.name for anatomy in guided.plan.anatomies] == ["cond", "uncond"]
    pipe.guider.disable()
    _, alone = drawn(pipe, tocache.FORA(3))
    assert [anatomy.shape.name for anatomy in alone.plan.anatomies] == ["cond"]
    pipe.register_modules(guider=None)
    _, without = drawn(pipe, tocache.FORA(3))
    assert without.plan.passes == 1
    assert without.flops_computed == alone.flops_computed


def test_a_guider_that_stops_on_the_way() -> None:
    pipe = HUNYUAN_IMAGE.make()
    pipe.register_modules(guider=diffusers.ClassifierFreeGuidance(guidance_scale=3.0, stop=0.5))
    plain = HUNYUAN_IMAGE.draw(pipe)
    # the pipeline itself asks before the first step, where the guider still stands at the end of its last run
    pipe.guider.set_state(step=0, num_inference_steps=HUNYUAN_IMAGE.steps, timestep=torch.tensor(0))
    whole, _ = drawn(pipe, tocache.Uncached())
    assert torch.equal(whole, plain)
    pipe.guider.set_state(step=0, num_inference_steps=HUNYUAN_IMAGE.steps, timestep=torch.tensor(0))
    cached, report = drawn(pipe, tocache.ToCa(3, 0.3))
    assert torch.isfinite(cached).all()
    assert not torch.equal(cached, plain)
    assert report.overruled == 0
