"""Modulations computed ahead, in whole pipelines: the same pictures within rounding, and one product a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler

import tocache
from tocache.errors import OptionError
from tocache.models.registry import family_of

from ..conftest import CASES, Case
from .miniatures.sd3 import CASES as SD3

CONDITIONED = [case for case in (*CASES, *SD3) if case.name in ("dit", "flux", "sd3", "sd3.5")]
PARTIAL = tocache.ToCa(3, 0.3)


@pytest.fixture(params=CONDITIONED, ids=lambda case: case.name)
def conditioned_case(request: pytest.FixtureRequest) -> Case:
    """Every pipeline in turn whose modulation can be computed ahead."""
    chosen: Case = request.param
    return chosen


def drawn(case: Case, pipe: Any, method: tocache.Method, ahead: bool, **options: Any) -> torch.Tensor:
    tocache.enable(pipe, method, modulate_ahead=ahead)
    return case.draw(pipe, **options)


@pytest.mark.parametrize("method", [tocache.Uncached(), PARTIAL, tocache.FORA(3)], ids=lambda m: m.name)
def test_pictures_are_the_same_within_rounding(conditioned_case: Case, method: tocache.Method) -> None:
    case, pipe = conditioned_case, conditioned_case.make(dtype=torch.float64)
    plain = drawn(case, pipe, method, ahead=False, seeds=(0, 1))
    assert tocache.report(pipe).modulated is None
    ahead = drawn(case, pipe, method, ahead=True, seeds=(0, 1))
    torch.testing.assert_close(ahead, plain, rtol=1e-6, atol=1e-6)
    report = tocache.report(pipe)
    assert report.modulated == case.steps * report.passes
    assert report.modulation_bytes > 0
    assert report.cache_bytes_peak == report.cache_bytes_planned


def test_single_precision_too(conditioned_case: Case) -> None:
    case, pipe = conditioned_case, conditioned_case.make()
    plain = drawn(case, pipe, PARTIAL, ahead=False)
    torch.testing.assert_close(drawn(case, pipe, PARTIAL, ahead=True), plain, rtol=1e-3, atol=1e-3)


def test_every_projection_runs_once_a_run(conditioned_case: Case) -> None:
    case, pipe = conditioned_case, conditioned_case.make()
    paths = family_of(pipe.transformer).conditioned(pipe.transformer).paths
    calls = dict.fromkeys(paths, 0)

    def count(path: str) -> Any:
        def hook(*_: Any) -> None:
            calls[path] += 1

        return hook

    for path in paths:
        pipe.transformer.get_submodule(path).register_forward_hook(count(path))
    drawn(case, pipe, PARTIAL, ahead=True)
    assert set(calls.values()) == {1}
    tocache.disable(pipe)
    case.draw(pipe)
    assert min(calls.values()) == 1 + case.steps


def test_no_product_of_a_block_with_the_condition_is_forgotten(conditioned_case: Case) -> None:
    """All linear layers whose input has no axis of tokens are the embeddings' or computed ahead."""
    case, pipe = conditioned_case, conditioned_case.make()
    found = family_of(pipe.transformer).conditioned(pipe.transformer)
    seen: set[str] = set()
    for path, module in pipe.transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, args, __, path=path: seen.add(path) if args[0].dim() == 2 else None)
    case.draw(pipe)
    left = {path for path in seen if path not in found.paths}
    assert all(any(path.startswith(f"{embedding}.") for embedding in found.projections) for path in left)


def test_guidance_with_two_classes_in_a_batch() -> None:
    case = CONDITIONED[0]
    pipe = case.make(dtype=torch.float64)
    plain = drawn(case, pipe, PARTIAL, ahead=False, seeds=(0, 1), guidance_scale=4.0)
    ahead = drawn(case, pipe, PARTIAL, ahead=True, seeds=(0, 1), guidance_scale=4.0)
    torch.testing.assert_close(ahead, plain, rtol=1e-6, atol=1e-6)
    other = case.draw(pipe, seeds=(2, 0), guidance_scale=4.0)  # other classes: a table of their own
    tocache.disable(pipe)
    torch.testing.assert_close(drawn(case, pipe, PARTIAL, False, seeds=(2, 0), guidance_scale=4.0), other)


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler], ids=lambda s: s.__name__)
def test_a_scheduler_that_is_assigned_later_has_times_of_its_own(scheduler: Any) -> None:
    case = CONDITIONED[0]
    pipe = case.make(dtype=torch.float64)
    drawn(case, pipe, PARTIAL, ahead=True)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    ahead = case.draw(pipe)
    assert tocache.report(pipe).modulated == tocache.report(pipe).steps
    torch.testing.assert_close(drawn(case, pipe, PARTIAL, ahead=False), ahead, rtol=1e-6, atol=1e-6)


def test_a_callback_that_changes_the_times_is_followed() -> None:
    case = next(case for case in CONDITIONED if case.name == "flux")
    pipe = case.make(dtype=torch.float64)

    def hurry(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            pipe.scheduler.timesteps[7] *= 0.9
        return {}

    plain = drawn(case, pipe, PARTIAL, ahead=False, callback_on_step_end=hurry)
    with pytest.warns(tocache.TocacheWarning, match="not ahead: the model's time is not known to be the schedule's"):
        ahead = drawn(case, pipe, PARTIAL, ahead=True, callback_on_step_end=hurry)
    torch.testing.assert_close(ahead, plain, rtol=1e-6, atol=1e-6)
    assert tocache.report(pipe).modulated == case.steps - 1
    assert not torch.equal(plain, drawn(case, pipe, PARTIAL, ahead=False))


def test_a_family_without_such_modules_is_refused_and_left_as_it_was() -> None:
    case = next(case for case in CASES if case.name == "pixart")
    pipe = case.make()
    with pytest.raises(OptionError, match="modulate_ahead=True is not allowed for pixart"):
        tocache.enable(pipe, modulate_ahead=True)
    with pytest.raises(tocache.NotEnabledError):
        tocache.report(pipe)


def test_disable_and_enabled_leave_no_trace_of_it() -> None:
    case = CONDITIONED[0]
    pipe = case.make()
    plain = case.draw(pipe)
    tocache.enable(pipe, PARTIAL, modulate_ahead=True)
    ahead = case.draw(pipe)
    with tocache.enabled(pipe, tocache.Uncached()):
        assert torch.equal(case.draw(pipe), plain)
    assert torch.equal(case.draw(pipe), ahead)
    assert "modulation of 12 passes" in str(tocache.report(pipe))
    tocache.disable(pipe)
    assert not any(hasattr(type(module), "_tocache_base") for module in pipe.transformer.modules())
    assert torch.equal(case.draw(pipe), plain)
