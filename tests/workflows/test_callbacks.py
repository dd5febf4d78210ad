"""Callbacks between the steps: they change latents and prompts, and end a run before its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache

from .pipelines import PARTIAL, STEPS, check_workflow, draw_flux, draw_text, flux_pipe, text_pipe


def nudge(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Changes the latents after step 3."""
    return {"latents": tensors["latents"] * 1.5} if step == 3 else {}


def test_changed_latents_are_the_ones_that_go_on() -> None:
    pipe = flux_pipe()
    tocache.enable(pipe, PARTIAL)
    untouched = draw_flux(pipe)
    tocache.disable(pipe)
    check_workflow(pipe, lambda p: draw_flux(p, callback_on_step_end=nudge))
    assert not torch.allclose(draw_flux(pipe, callback_on_step_end=nudge), untouched, atol=1e-3)


def test_another_prompt_on_the_way() -> None:
    pipe = flux_pipe()
    embeds = pipe.encode_prompt("a blue square", None, max_sequence_length=16)[0]

    def change(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": embeds} if step == 4 else {}

    check_workflow(pipe, lambda p: draw_flux(p, callback_on_step_end=change))


@pytest.mark.parametrize("at", [0, 4, STEPS - 1])
def test_an_interrupted_run_ends_with_the_pipeline_and_frees_everything(at: int) -> None:
    pipe = flux_pipe()
    held: list[int] = []

    def stop(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step >= at
        return {}

    plain = draw_flux(pipe, callback_on_step_end=stop)
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(draw_flux(pipe, callback_on_step_end=stop), plain)
    tocache.enable(pipe, PARTIAL)
    whole = draw_flux(pipe)
    with tocache.watch(pipe, lambda record: held.append(record.held_bytes)):
        draw_flux(pipe, callback_on_step_end=stop)
    report = tocache.report(pipe)
    assert (report.steps, report.plan.steps, len(held)) == (at + 1, STEPS, at + 1)
    assert report.flops_computed == report.flops_planned <= report.flops_uncached
    assert str(report)
    assert torch.equal(draw_flux(pipe), whole)


def test_a_callback_that_raises_ends_the_run() -> None:
    pipe = flux_pipe()
    tocache.enable(pipe, PARTIAL)
    whole = draw_flux(pipe)

    def fail(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_flux(pipe, callback_on_step_end=fail)
    assert torch.equal(draw_flux(pipe), whole)


def test_a_pipeline_called_in_a_callback_of_its_own() -> None:
    """A preview, say: the inner run takes the place of the outer one, which goes on without a cache."""
    pipe = flux_pipe()
    tocache.enable(pipe, tocache.Uncached())
    inner: list[torch.Tensor] = []

    def preview(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            scheduler = pipe.scheduler
            pipe.scheduler = type(scheduler).from_config(scheduler.config)
            inner.append(draw_flux(pipe))
            pipe.scheduler = scheduler
        return {}

    plain = draw_flux(pipe)
    with pytest.warns(tocache.TocacheWarning, match="outside of any run"):
        outer = draw_flux(pipe, callback_on_step_end=preview)
    assert torch.equal(inner[0], plain)
    assert torch.equal(outer, plain)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_older_kind_of_callback() -> None:
    pipe, seen = text_pipe(), []

    def note(step: int, time: Any, latents: torch.Tensor) -> None:
        seen.append(step)

    check_workflow(pipe, lambda p: draw_text(p, callback=note, callback_steps=2))
    assert seen == [*range(0, STEPS, 2)] * 4
