"""What every family must keep, whatever its transformer looks like."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import warnings
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

import tocache
from tocache.analysis.forwards import around_forwards
from tocache.engine.intercept import plain_class
from tocache.methods import TAP, DeltaDiT, Early

METHODS = [tocache.ToCa(3, 0.3), tocache.FORA(3)]
SERVING = [tocache.FORA(2), Early(2), DeltaDiT(2), TAP(2, order=1, warmup=1)]
NO_REGIONS = ("latte", "ltx-2", "ltx-2.3", "mochi", "ovis-image")
"""Families in which what blocks add is not one feature."""
NO_HALVES = ("hunyuan-dit",)
"""Families in which later blocks read what earlier ones gave."""


def attached(pipe: Any) -> list[str]:
    """Names of everything in a pipeline that tocache has a hold on."""
    things = {"pipeline": pipe, "scheduler": pipe.scheduler, **dict(pipe.transformer.named_modules())}
    if (second := getattr(pipe, "transformer_2", None)) is not None:
        things |= second.named_modules(prefix="second")
    return [
        name for name, thing in things.items() if hasattr(type(thing), "_tocache_base") or "_tocache" in vars(thing)
    ]


def blocks_of(pipe: Any) -> Any:
    """The first list of blocks of its transformer."""
    return next(child for child in pipe.transformer.children() if isinstance(child, torch.nn.ModuleList))


def one_tensor(output: Any) -> torch.Tensor:
    """What a transformer gives; some give the pictures of a batch one by one."""
    return torch.stack(output) if isinstance(output, list) else output


def fourth_forward(case: Any, pipe: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the transformer is given at its fourth call when `pipe` draws."""
    inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append((args, kwargs)), with_kwargs=True
    )
    case.draw(pipe)
    handle.remove()
    return inputs[3]


class TestFamilyContract:
    def test_an_all_fresh_plan_is_bit_equal_to_the_model_without_a_cache(self, case):
        pipe = case.make()
        plain = case.draw(pipe)
        tocache.enable(pipe, tocache.Uncached())
        assert torch.equal(case.draw(pipe), plain)

    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
    def test_disable_leaves_everything_as_it_was(self, case, method):
        pipe = case.make()
        keys, plain = list(pipe.transformer.state_dict()), case.draw(pipe)
        tocache.enable(pipe, method)
        assert list(pipe.transformer.state_dict()) == keys
        assert not torch.equal(case.draw(pipe), plain)
        tocache.disable(pipe)
        assert attached(pipe) == []
        assert list(pipe.transformer.state_dict()) == keys
        assert torch.equal(case.draw(pipe), plain)

    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
    def test_a_run_leaves_nothing_behind_for_the_next(self, case, method):
        pipe = case.make()
        tocache.enable(pipe, method)
        first = case.draw(pipe)
        case.draw(pipe, seeds=(1,))
        case.draw(pipe, seeds=(2, 3))
        case.draw(pipe, num_inference_steps=10)
        assert torch.equal(case.draw(pipe), first)
        assert tocache.report(pipe).overruled == 0

    def test_two_pipelines_of_one_class_do_not_know_of_each_other(self, case):
        one, other = case.make(seed=0), case.make(seed=1)
        plain = case.draw(other)
        tocache.enable(one, tocache.FORA(3))
        assert torch.equal(case.draw(other), plain)
        cached = case.draw(one)
        tocache.enable(other, tocache.ToCa(2, 0.5))
        assert torch.equal(case.draw(one), cached)
        tocache.disable(one)
        assert not torch.equal(case.draw(other), plain)

    def test_another_resolution_is_another_plan(self, case):
        small = case.make()
        tocache.enable(small, tocache.ToCa(3, 0.3))
        before = case.draw(small)
        if case.name in ("dit", "stable-audio"):  # their pipelines draw the one size of their transformer
            small.transformer.register_to_config(sample_size=24)
            other = case.draw(small)
            small.transformer.register_to_config(sample_size=16)
        else:
            other = case.draw(small, **case.resized)
        assert other.shape != before.shape
        assert torch.isfinite(other).all()
        assert tocache.report(small).overruled == 0
        assert torch.equal(case.draw(small), before)

    def test_an_exception_in_the_middle_of_a_run_leaks_nothing(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        before = case.draw(pipe)
        block = blocks_of(pipe)[1]
        calls = []

        def fail(*_: Any) -> None:
            calls.append(1)
            if len(calls) == 6:
                raise MemoryError("no memory left")

        handle = block.register_forward_pre_hook(fail)
        with pytest.raises(MemoryError, match="no memory left"):
            case.draw(pipe)
        handle.remove()
        assert torch.equal(case.draw(pipe), before)

    def test_two_threads_with_two_pipelines(self, case):
        pipes = [case.make(seed=0), case.make(seed=1)]
        for pipe in pipes:
            tocache.enable(pipe, tocache.ToCa(3, 0.3))
        alone = [case.draw(pipe) for pipe in pipes]
        together: dict[int, torch.Tensor] = {}
        threads = [threading.Thread(target=lambda n=n: together.__setitem__(n, case.draw(pipes[n]))) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(torch.equal(together[n], alone[n]) for n in range(2))

    @pytest.mark.parametrize("method", [*METHODS, tocache.ToCa(4, 0.5, share="step")], ids=str)
    def test_the_bytes_held_are_those_that_the_plan_states(self, case, method):
        pipe = case.make()
        tocache.enable(pipe, method)
        case.draw(pipe, seeds=(0, 1))
        report = tocache.report(pipe)
        assert report.cache_bytes_planned == report.cache_bytes_peak > 0
        assert report.flops_computed == report.flops_planned < report.flops_uncached

    def test_nothing_is_held_after_a_run(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        held = []
        with tocache.watch(pipe, lambda record: held.append(record.held_bytes)):
            case.draw(pipe)
        assert max(held) > 0
        assert held[-1] == 0

    def test_guidance_on_and_off_and_on_again(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        guided = case.draw(pipe)
        case.draw(pipe, **case.unguided)
        assert tocache.report(pipe).rows == case.rows
        assert torch.equal(case.draw(pipe), guided)

    def test_samples_of_a_batch_do_not_influence_one_another(self, case):
        pipe = case.make(dtype=torch.float64)
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        together = case.draw(pipe, seeds=(0, 1, 2))
        for n in range(3):
            torch.testing.assert_close(case.draw(pipe, seeds=(n,))[0], together[n], rtol=case.close, atol=case.close)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision(self, case, dtype):
        pipe = case.make(dtype=dtype)
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        assert torch.isfinite(case.draw(pipe)).all()
        report = tocache.report(pipe)
        assert report.cache_bytes_planned == report.cache_bytes_peak
        assert report.overruled == 0

    def test_a_scheduler_assigned_later_is_followed(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.FORA(3))
        old = pipe.scheduler
        pipe.scheduler = type(old).from_config(old.config) if case.flow else _other(old)
        cached = case.draw(pipe)
        assert tocache.report(pipe).steps_by_kind["reuse"] > 0
        assert not hasattr(type(old), "_tocache_base")
        tocache.disable(pipe)
        assert not torch.equal(case.draw(pipe), cached)

    def test_a_transformer_assigned_later_is_followed(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.FORA(3))
        old, pipe.transformer = pipe.transformer, case.make(seed=1).transformer
        case.draw(pipe)
        assert tocache.report(pipe).steps_by_kind["reuse"] > 0
        assert plain_class(old) is type(old)
        tocache.disable(pipe)
        assert attached(pipe) == []

    def test_a_deep_copy_is_a_plain_pipeline(self, case):
        pipe = case.make()
        plain = case.draw(pipe)
        tocache.enable(pipe, tocache.FORA(3))
        twin = copy.deepcopy(pipe)
        assert attached(twin) == []
        with torch.no_grad():
            for parameter in pipe.transformer.parameters():
                parameter.zero_()  # a copy that still ran the original's weights would draw something else
        assert torch.equal(case.draw(twin), plain)

    def test_an_enabled_transformer_can_be_pickled_and_saved(self, case, tmp_path):
        pipe = case.make()
        plain = case.draw(pipe)
        tocache.enable(pipe, tocache.FORA(3))
        again = pickle.loads(pickle.dumps(pipe.transformer))
        assert type(again) is plain_class(pipe.transformer)
        pipe.save_pretrained(tmp_path)
        loaded = plain_class(pipe).from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded) is plain_class(pipe)
        for name, component in pipe.components.items():
            if isinstance(component, torch.nn.Module):
                kept = getattr(loaded, name).state_dict()
                assert {key: torch.equal(kept[key], value) for key, value in component.state_dict().items()} == (
                    dict.fromkeys(kept, True)
                ), name
        # weights mapped from a file may lie at addresses at which products of matrices round in another order
        torch.testing.assert_close(case.draw(loaded), plain, rtol=1e-3, atol=1e-3)

    def test_enable_replaces_and_enabled_restores(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.FORA(3))
        fora = case.draw(pipe)
        with tocache.enabled(pipe, tocache.ToCa(3, 0.5)):
            assert not torch.equal(case.draw(pipe), fora)
        assert torch.equal(case.draw(pipe), fora)
        tocache.enable(pipe, tocache.FORA(3))
        assert torch.equal(case.draw(pipe), fora)

    def test_without_a_method_it_is_the_middle_level(self, case):
        pipe = case.make()
        tocache.enable(pipe)
        default = case.draw(pipe)
        tocache.enable(pipe, "balanced")
        assert torch.equal(case.draw(pipe), default)

    def test_toca_without_options_is_what_was_published_for_the_family(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.ToCa())
        case.draw(pipe)
        with tocache.trace(pipe) as trace:
            case.draw(pipe)
        assert trace.plan.policy.scores == case.scores
        assert trace.choices

    @pytest.mark.parametrize("level", ["quality", "balanced", "fast"])
    def test_every_level_draws_as_its_plan_says(self, case, level):
        pipe = case.make()
        tocache.enable(pipe, level)
        assert torch.isfinite(case.draw(pipe)).all()
        report = tocache.report(pipe)
        assert report.overruled == 0
        assert set(report.steps_by_kind) == {"full", "reuse"}
        assert report.flops_computed == report.flops_planned < report.flops_uncached
        assert report.cache_bytes_peak == report.cache_bytes_planned

    def test_the_report_tells_before_and_after_a_run(self, case):
        pipe = case.make()
        with pytest.raises(tocache.NotEnabledError, match="enable"):
            tocache.report(pipe)
        tocache.enable(pipe, tocache.FORA(3))
        assert "no run yet" in str(tocache.report(pipe))
        case.draw(pipe)
        report = tocache.report(pipe)
        assert report.steps == case.steps
        assert sum(report.steps_by_kind.values()) == case.steps
        assert json.loads(json.dumps(report.to_dict()))["flops_speedup"] == pytest.approx(report.speedup)
        assert f"{report.speedup:.2f}x fewer" in str(report)

    def test_a_plan_saved_from_a_run_draws_the_same_picture(self, case, tmp_path):
        pipe = case.make()
        tocache.enable(pipe, tocache.ToCa(3, 0.3))
        with tocache.trace(pipe) as trace:
            drawn = case.draw(pipe)
        tocache.save_plan(trace.plan, tmp_path / "plan.json")
        tocache.enable(pipe, str(tmp_path / "plan.json"))
        assert torch.equal(case.draw(pipe), drawn)
        with pytest.raises(tocache.PlanMismatchError, match="steps: plan 12, here 9"):
            case.draw(pipe, num_inference_steps=9)
        tocache.enable(pipe, tmp_path / "plan.json", resample=True)
        assert torch.isfinite(case.draw(pipe, num_inference_steps=9)).all()

    def test_a_forward_can_be_made_again_within_its_pass(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.Uncached())
        once = case.draw(pipe)
        with around_forwards(pipe, lambda forward: (forward.make(), forward.make())[1]):
            assert torch.equal(case.draw(pipe), once)

    @pytest.mark.parametrize("method", SERVING, ids=lambda m: m.name)
    def test_what_is_served_is_what_was_computed_where_nothing_has_changed(self, case, method):
        pipe = case.make(dtype=torch.float64)
        args, kwargs = fourth_forward(case, pipe)

        def repeated() -> torch.Tensor:
            tocache.enable(pipe.transformer, method)
            given = []
            with torch.no_grad(), tocache.run(pipe.transformer, timesteps=9, cfg=None) as run:
                for _ in range(9):
                    given.append(one_tensor(pipe.transformer(*args, **kwargs)[0]))
                    run.step()
            return torch.stack(given)

        plain = one_tensor(pipe.transformer(*args, **kwargs)[0]).detach()
        spans = method.name in ("delta-dit", "tap")
        if (spans and case.name in NO_REGIONS) or (method.name == "delta-dit" and case.name in NO_HALVES):
            with pytest.raises((tocache.OptionError, tocache.PlanError), match=r"not allowed|may not be served"):
                repeated()
            return
        served = repeated()
        assert tocache.report(pipe.transformer).steps_by_kind["full"] < 9
        torch.testing.assert_close(served, plain.expand_as(served), rtol=1e-4, atol=1e-4)

    def test_a_foreign_loop_is_computed_whole_and_warned_of_once(self, case):
        pipe = case.make()
        args, kwargs = fourth_forward(case, pipe)
        with torch.no_grad():
            plain = one_tensor(pipe.transformer(*args, **kwargs)[0])
            tocache.enable(pipe.transformer, tocache.FORA(3))
            with pytest.warns(tocache.TocacheWarning, match="outside of any run"):
                assert torch.equal(one_tensor(pipe.transformer(*args, **kwargs)[0]), plain)
            with warnings.catch_warnings():
                warnings.simplefilter("error", tocache.TocacheWarning)
                assert torch.equal(one_tensor(pipe.transformer(*args, **kwargs)[0]), plain)

    def test_few_steps_are_warned_of(self, case):
        pipe = case.make()
        tocache.enable(pipe, tocache.FORA(3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", tocache.TocacheWarning)
            case.draw(pipe, num_inference_steps=4)
        assert ["4 steps leaves caching little" in str(warning.message) for warning in caught] == [True]


def _other(scheduler: Any) -> Any:
    """A scheduler of another class for the same model."""
    other = (
        EulerDiscreteScheduler if isinstance(scheduler, DPMSolverMultistepScheduler) else DPMSolverMultistepScheduler
    )
    return other.from_config(scheduler.config)
