"""Pipelines that share a transformer or a scheduler, and components that are put in place later."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline

import tocache
from tocache.engine.intercept import plain_class

from .pipelines import PARTIAL, class_pipe, draw_class, draw_flux, flux_pipe, quiet
from .test_img2img import draw as redraw

METHODS = (tocache.FORA(3), tocache.ToCa(2, 0.5))


def touched(*pipes: Any) -> list[str]:
    """What tocache has a hold on, of all components of `pipes`."""
    things = [*pipes, *(part for pipe in pipes for part in (pipe.scheduler, *pipe.transformer.modules()))]
    return [type(t).__name__ for t in things if "_tocache" in vars(t) or hasattr(type(t), "_tocache_base")]


def pair(same_scheduler: bool) -> tuple[Any, Any]:
    """Two pipelines of one transformer."""
    one = class_pipe()
    two = quiet(type(one)(**one.components))
    if not same_scheduler:
        two.scheduler = type(one.scheduler).from_config(one.scheduler.config)
    return one, two


@pytest.mark.parametrize("same_scheduler", [True, False])
class TestOneTransformer:
    def test_each_pipeline_has_its_own_method(self, same_scheduler: bool) -> None:
        alone = []
        for method in METHODS:
            pipe = class_pipe()
            tocache.enable(pipe, method)
            alone.append(draw_class(pipe))
        pipes = pair(same_scheduler)
        for pipe, method in zip(pipes, METHODS, strict=True):
            tocache.enable(pipe, method)
        for pipe, expected in [*zip(pipes, alone, strict=True)] * 2:
            assert torch.equal(draw_class(pipe), expected)
        assert [tocache.report(pipe).method.split("(")[0] for pipe in pipes] == ["FORA", "ToCa"]

    def test_what_is_taken_off_one_stays_on_the_other(self, same_scheduler: bool) -> None:
        one, two = pair(same_scheduler)
        plain = draw_class(one)
        for pipe, method in zip((one, two), METHODS, strict=True):
            tocache.enable(pipe, method)
        cached = draw_class(one)
        tocache.disable(two)
        assert torch.equal(draw_class(one), cached)
        tocache.disable(one)
        assert touched(one, two) == []
        assert torch.equal(draw_class(one), plain)
        assert torch.equal(draw_class(two), plain)

    def test_what_is_taken_off_the_transformer_is_off_both(self, same_scheduler: bool) -> None:
        one, two = pair(same_scheduler)
        plain = draw_class(one)
        for pipe in (one, two):
            tocache.enable(pipe, tocache.FORA(3))
        tocache.disable(one.transformer)
        assert touched(one, two) == []
        assert torch.equal(draw_class(two), plain)

    def test_enabled_for_a_block_of_code(self, same_scheduler: bool) -> None:
        one, two = pair(same_scheduler)
        plain = draw_class(two)
        tocache.enable(one, METHODS[0])
        cached = draw_class(one)
        with tocache.enabled(two, METHODS[1]):
            assert not torch.equal(draw_class(two), cached)
            assert torch.equal(draw_class(one), cached)
        assert torch.equal(draw_class(one), cached)
        tocache.disable(one)
        assert touched(one, two) == []
        assert torch.equal(draw_class(two), plain)

    def test_a_run_by_hand_is_of_the_pipeline_that_it_names(self, same_scheduler: bool) -> None:
        one, two = pair(same_scheduler)
        for pipe, method in zip((one, two), METHODS, strict=True):
            tocache.enable(pipe, method)
        x = {"timestep": torch.tensor([500]), "class_labels": torch.tensor([3])}
        with tocache.run(one, timesteps=9, cfg=None) as run:
            for _ in range(9):
                one.transformer(torch.zeros(1, 4, 8, 8), **x)
                run.step()
            with pytest.raises(tocache.RunError, match="leave it"):
                draw_class(two)
        assert tocache.report(one).plan.method.startswith("FORA")
        assert draw_class(two).isfinite().all()


def test_text_to_image_and_image_to_image_take_turns() -> None:
    """`from_pipe` makes one pipeline out of the parts of another."""
    pipe = flux_pipe()
    tocache.enable(pipe, PARTIAL)
    cached = draw_flux(pipe)
    other = quiet(FluxImg2ImgPipeline.from_pipe(pipe))
    assert plain_class(other) is FluxImg2ImgPipeline
    drawn = redraw(other)  # not enabled itself: it runs with the transformer's cache
    assert tocache.report(pipe).steps == 10
    assert torch.equal(draw_flux(pipe), cached)
    tocache.enable(other, PARTIAL)
    assert torch.equal(redraw(other), drawn)
    assert torch.equal(draw_flux(pipe), cached)
    assert tocache.report(other).steps == 10
    tocache.disable(pipe)
    assert torch.equal(redraw(other), drawn)
    tocache.disable(other)
    assert touched(pipe, other) == []


def test_a_transformer_of_another_pipeline_is_shared_from_then_on() -> None:
    one, two = class_pipe(0), class_pipe(1)
    tocache.enable(two, METHODS[1])
    expected = draw_class(two)
    tocache.enable(one, METHODS[0])
    mine, one.transformer = one.transformer, two.transformer
    assert draw_class(one).isfinite().all()
    assert torch.equal(draw_class(two), expected)
    assert touched(class_pipe()) == []
    one.transformer = mine
    assert torch.equal(draw_class(two), expected)
    tocache.disable(two)
    tocache.disable(one)
    assert touched(one, two) == []


def test_a_copy_of_the_scheduler_that_is_stepped_beside_it_does_not_count() -> None:
    """As LTX-2 does for its sound."""
    pipe = class_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    pipe.scheduler.set_timesteps(12)
    copied = copy.deepcopy(pipe.scheduler)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sound = latents.clone()
    for t in pipe.scheduler.timesteps:
        with torch.no_grad():
            noise = pipe.transformer(latents, timestep=t[None], class_labels=torch.tensor([3])).sample[:, :4]
        latents = pipe.scheduler.step(noise, t, latents).prev_sample
        sound = copied.step(noise, t, sound).prev_sample
    report = tocache.report(pipe)
    assert (report.steps, report.plan.steps, report.overruled) == (12, 12, 0)
    assert torch.equal(latents, sound)
    assert not hasattr(type(copied), "_tocache_base")
