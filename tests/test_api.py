"""The public calls: runs by hand, reports, traces and watches."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from diffusers import DiTTransformer2DModel, EulerDiscreteScheduler

import tocache
from tocache.demo.random_pipelines import random_class_pipeline
from tocache.features import PassCache

TOCA = tocache.ToCa(3, 0.5, ratio="constant", schedule="constant")


@pytest.fixture
def model() -> DiTTransformer2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, num_layers=3, sample_size=8, num_embeds_ada_norm=10
        )
    return made.eval().requires_grad_(False)


def forward(model, step: int, rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    start = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(99))
    latents = start + 0.3 * torch.randn(4, 8, 8, generator=generator)
    time = torch.full((rows,), 900 - 40 * step)
    return model(latents, timestep=time, class_labels=torch.arange(rows)).sample


def sample(model, steps: int = 12, *, cfg=None, rows: int = 2, timesteps=None) -> list[torch.Tensor]:
    outputs = []
    with tocache.run(model, timesteps=steps if timesteps is None else timesteps, cfg=cfg) as run:
        for step in range(steps):
            outputs.append(forward(model, step, rows))
            run.step()
    return outputs


@pytest.fixture
def held(monkeypatch):
    """held() is the number of bytes in all caches that were made during the test and are still alive."""
    made, plain = [], PassCache.__init__

    def noted(cache, *args, **options) -> None:
        plain(cache, *args, **options)
        made.append(weakref.ref(cache))

    monkeypatch.setattr(PassCache, "__init__", noted)
    return lambda: sum(cache.held for ref in made if (cache := ref()) is not None)


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestRun:
    @pytest.mark.parametrize(
        "timesteps",
        [12, range(12), list(range(12)), torch.arange(12), np.arange(12), np.int64(12)],
        ids=lambda t: type(t).__name__,
    )
    def test_timesteps_or_how_many_there_are(self, model, timesteps):
        tocache.enable(model, tocache.FORA(3))
        expected = sample(model)
        assert equal(sample(model, timesteps=timesteps), expected)
        assert tocache.report(model).plan.steps == 12

    @pytest.mark.parametrize(
        ("cfg", "halves", "passes"),
        [
            (None, [None], 1),
            ("cond,uncond", ["cond,uncond"], 1),
            ("uncond,cond", ["uncond,cond"], 1),
            ("two-pass", [None, None], 2),
        ],
    )
    def test_cfg_says_what_a_batch_means(self, model, cfg, halves, passes):
        tocache.enable(model, TOCA)
        with tocache.run(model, timesteps=9, cfg=cfg) as run:
            for step in range(9):
                for _ in range(passes):
                    forward(model, step)
                run.step()
        plan = tocache.report(model).plan
        assert [anatomy.shape.halves for anatomy in plan.anatomies] == halves

    def test_an_odd_batch_has_no_halves(self, model):
        tocache.enable(model, TOCA)
        sample(model, cfg="cond,uncond", rows=3)
        assert tocache.report(model).plan.anatomies[0].shape.halves is None

    def test_a_step_too_many(self, model):
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=9, cfg=None) as run:
            for step in range(9):
                forward(model, step)
                run.step()
            with pytest.raises(tocache.RunError, match=r"step\(\) was called more than the 9 times"):
                run.step()

    def test_a_run_that_is_over_steps_no_other(self, model):
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=9, cfg=None) as old:
            forward(model, 0)
        with pytest.raises(tocache.RunError):
            old.step()
        with tocache.run(model, timesteps=9, cfg=None) as run:
            forward(model, 0)
            with pytest.raises(tocache.RunError):
                old.step()
            run.step()
        assert tocache.report(model).steps == 1

    def test_a_second_run_inside_is_refused_and_the_outer_one_goes_on(self, model):
        tocache.enable(model, TOCA)
        expected, outputs = sample(model), []
        with tocache.run(model, timesteps=12, cfg=None) as run:
            for step in range(12):
                if step in (1, 5):
                    with (
                        pytest.raises(tocache.RunError, match="open already"),
                        tocache.run(model, timesteps=3, cfg=None),
                    ):
                        pass
                outputs.append(forward(model, step))
                run.step()
        assert equal(outputs, expected)
        assert tocache.report(model).overruled == 0

    def test_a_run_left_by_an_exception_frees_everything(self, model, held):
        tocache.enable(model, TOCA)
        expected, during = sample(model), []
        assert held() == 0

        def interrupted() -> None:
            with tocache.run(model, timesteps=12, cfg=None) as run:
                for step in range(5):
                    forward(model, step)
                    run.step()
                    during.append(held())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert max(during) > 0
        assert held() == 0
        assert tocache.report(model).steps == 5
        assert equal(sample(model), expected)

    def test_schedulers_do_not_count_inside(self):
        pipe = random_class_pipeline(depth=2, hidden=16, heads=2, sample_size=8)
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        tocache.enable(pipe, tocache.FORA(3))
        with torch.no_grad(), tocache.run(pipe, timesteps=12, cfg=None) as run:
            pipe.scheduler.set_timesteps(30)
            for step in range(12):
                noise = forward(pipe.transformer, step)
                pipe.scheduler.step(noise[:, :4], pipe.scheduler.timesteps[step], torch.zeros(2, 4, 8, 8))
                run.step()
        report = tocache.report(pipe)
        assert (report.steps, report.plan.steps, report.overruled) == (12, 12, 0)

    def test_no_pipeline_is_called_inside(self):
        pipe = random_class_pipeline(depth=2, hidden=16, heads=2, sample_size=8)
        pipe.set_progress_bar_config(disable=True)
        tocache.enable(pipe, tocache.FORA(3))
        with tocache.run(pipe, timesteps=12, cfg=None), pytest.raises(tocache.RunError, match=r"inside tocache\.run"):
            pipe([1])
        pipe([1], num_inference_steps=9)
        assert tocache.report(pipe).steps == 9


class TestReport:
    def test_it_counts_what_ran(self, model):
        tocache.enable(model, TOCA)
        sample(model)
        report = tocache.report(model)
        assert report.steps_by_kind == {"full": 5, "partial": 7}
        assert set(report.seconds_by_kind) == {"full", "partial"}
        assert (report.family, report.rows, report.passes, report.overruled) == ("dit", 2, 1, 0)
        assert report.flops_computed == report.flops_planned == tocache.plan.flops_planned(report.plan)
        assert report.flops_uncached == tocache.plan.flops_uncached(report.plan)
        assert report.flops_scores == tocache.plan.flops_scores(report.plan) > 0
        assert report.speedup == report.flops_uncached / report.flops_computed

    def test_a_run_left_early_counts_the_steps_that_were_made(self, model):
        tocache.enable(model, tocache.FORA(3))
        with tocache.run(model, timesteps=12, cfg=None) as run:
            forward(model, 0)
            run.step()
        report = tocache.report(model)
        assert report.steps_by_kind == {"full": 1}
        assert report.speedup == pytest.approx(1.0)

    def test_scores_are_counted_of_the_steps_that_were_made(self, model):
        tocache.enable(model, TOCA)
        sample(model)
        whole = tocache.report(model).flops_scores
        with tocache.run(model, timesteps=12, cfg=None) as run:
            forward(model, 0)
            run.step()
        assert 0 < tocache.report(model).flops_scores < whole

    def test_a_bare_transformer_reports_like_its_pipeline(self):
        pipe = random_class_pipeline(depth=2, hidden=16, heads=2, sample_size=8)
        tocache.enable(pipe, tocache.FORA(3))
        assert str(tocache.report(pipe.transformer)) == str(tocache.report(pipe))
        tocache.disable(pipe.transformer)
        with pytest.raises(tocache.NotEnabledError):
            tocache.report(pipe)


class TestTraceAndWatch:
    def test_a_trace_has_every_choice_of_the_newest_run(self, model):
        tocache.enable(model, TOCA)
        with tocache.trace(model) as trace:
            sample(model)
            first = dict(trace.choices)
            sample(model, 9)
        planned = {
            (step, 0, site.name): int(trace.plan.fresh[step, 0, i])
            for step in range(9)
            for i, site in enumerate(trace.plan.sites)
            if trace.plan.fresh[step, 0, i] > 0
        }
        assert {key: index.shape for key, index in trace.choices.items()} == {k: (2, n) for k, n in planned.items()}
        assert max(step for step, _, _ in first) == 10
        sample(model)
        assert max(step for step, _, _ in trace.choices) < 9  # the with-block is over

    def test_a_trace_goes_on_when_another_method_is_enabled(self, model):
        tocache.enable(model, TOCA)
        with tocache.trace(model) as expected:
            sample(model)
        with tocache.trace(model) as trace:
            tocache.enable(model, TOCA)
            sample(model)
        assert trace.choices.keys() == expected.choices.keys()
        assert all(torch.equal(trace.choices[key], index) for key, index in expected.choices.items())

    def test_a_trace_without_a_run_has_no_plan(self, model):
        tocache.enable(model, tocache.FORA(3))
        with tocache.trace(model) as trace:
            pass
        with pytest.raises(tocache.RunError, match="no run was recorded"):
            trace.plan  # noqa: B018

    def test_a_run_without_choices_is_traced_as_well(self, model):
        tocache.enable(model, tocache.FORA(3))
        with tocache.trace(model) as trace:
            sample(model)
        assert trace.choices == {}
        assert trace.plan.steps == 12

    def test_a_watch_is_told_of_every_step_with_what_is_held(self, model, held):
        tocache.enable(model, TOCA)
        steps, bytes_held = [], []

        def note(record):
            steps.append(record.steps)
            bytes_held.append((record.held_bytes, held()))

        with tocache.watch(model, note):
            sample(model)
        sample(model)
        assert steps == list(range(1, 13))
        assert all(told == real for told, real in bytes_held)
        assert max(bytes_held)[0] > 0 == bytes_held[-1][0]

    def test_tracing_changes_nothing(self, model):
        tocache.enable(model, TOCA)
        expected = sample(model)
        with tocache.trace(model):
            assert equal(sample(model), expected)


class TestEnabled:
    def test_what_was_enabled_before_comes_back_even_after_an_error(self, model):
        tocache.enable(model, tocache.FORA(3))

        def fail() -> None:
            with tocache.enabled(model, TOCA):
                assert str(tocache.report(model)).startswith("tocache: ToCa")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert tocache.report(model).method == "FORA()"
        tocache.disable(model)
        with tocache.enabled(model, TOCA) as same:
            assert same is model
        with pytest.raises(tocache.NotEnabledError):
            tocache.report(model)

    def test_a_transformer_exchanged_meanwhile_gets_what_was_enabled_before(self):
        pipe, other = (random_class_pipeline(seed, depth=2, hidden=16, heads=2, sample_size=8) for seed in (0, 1))
        tocache.enable(pipe, tocache.FORA(4))
        old = pipe.transformer
        with tocache.enabled(pipe, tocache.FORA(3)):
            pipe.transformer = other.transformer
        assert tocache.report(pipe.transformer).method == "FORA(interval=4)"
        assert type(old) is DiTTransformer2DModel
