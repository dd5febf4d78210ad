"""Whole benchmarks of tiny pipelines."""

from __future__ import annotations

import math

import pytest

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.bench import Match, bench
from tocache.evaluation.contenders import OURS, REFERENCE, STEPS
from tocache.evaluation.results import write_results
from tocache.methods import METHODS


@pytest.fixture
def saved(case, tmp_path):
    """A folder in diffusers' format, and a file with two prompts."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(str(prompt) for prompt in case.prompts[:2]))
    # PixArt's pipeline knows resolutions for the published sizes only
    sizes = {"sample_size": 32, "depth": 2} if case.name == "pixart" else {}
    case.make(**sizes).save_pretrained(tmp_path / "model")
    return tmp_path / "model", prompts


def only(case, *names):
    if case.name not in names:
        pytest.skip(f"one family will do: {', '.join(names)}")


def test_every_method_that_the_model_can_take_has_rows(case, saved):
    only(case, "pixart")
    model, prompts = saved
    options = {"methods": "all", "peers": "none", "points": (1.5,), "prompts": prompts, "batch": 2, "steps": 10}
    results = bench(model, **options)
    assert {row.curve for row in results.rows if row.kind == OURS} == {*METHODS} - {"none", "placed"}
    assert [f"{row.curve}: {row.failed}" for row in results.rows if row.failed] == []


def test_rows_of_ours_and_of_fewer_steps(case, saved):
    only(case, "pixart")
    model, prompts = saved
    told = []
    options = {"methods": "fora", "peers": "none", "points": (2.0,), "prompts": prompts, "batch": 1, "steps": 10}
    results = bench(model, **options, tell=lambda *progress: told.append(progress))
    assert {(row.curve, row.kind) for row in results.rows} == {
        ("uncached", REFERENCE),
        ("fora", OURS),
        *((name, STEPS) for name in ("fewer-steps", "dpm-solver", "unipc")),
    }
    for row in results.rows:
        assert not row.failed
        assert row.pictures == 2
        assert 0 < row.loop_seconds["p50"] < row.total_seconds["p50"]
        if row.kind != REFERENCE:
            assert 5 < row.paired["psnr"]["mean"] < 100
            assert row.paired["ssim"]["low"] <= row.paired["ssim"]["mean"] <= row.paired["ssim"]["high"] < 1
            assert row.paired["judge_distance"]["mean"] > 0
    fora = [row for row in results.rows if row.curve == "fora"]
    assert fora[0].flops_ratio <= 2.05
    for row in fora:
        # the counter sees embeddings and modulations, too
        assert row.flops_ratio == pytest.approx(row.planned_ratio, rel=0.1)
        assert row.cache_bytes > 0
    (half,) = [row for row in results.rows if (row.curve, row.setting) == ("fewer-steps", "5 steps")]
    assert half.flops_ratio == pytest.approx(2)
    assert results.about["pictures"] == 2
    assert told[-1] == ("done", told[-1][2], told[-1][2])
    assert math.isfinite(sum(map(sum, results.by_picture["fora: interval=2"].values())))


@pytest.mark.slow
def test_videos_take_part(case, saved):
    only(case, "opensora")
    model, prompts = saved
    options = {"methods": "fora:interval=3", "peers": "none", "points": (2.0,), "prompts": prompts, "steps": 10}
    # by default it makes two seconds at 240p, which take tens of gigabytes on a CPU
    results = bench(model, **options, batch=1, resolution="144p", aspect_ratio="1:1", duration="17")
    by_curve = {row.curve: row for row in results.rows}
    assert by_curve["fora:interval=3"].flops_ratio > 1.3
    assert by_curve["fora:interval=3"].paired["psnr"]["mean"] > 5
    assert by_curve["fewer-steps"].pictures == 2


@pytest.mark.parametrize("when", ["warming up fora:interval=2", "fora:interval=2"])
def test_an_interruption_leaves_what_was_measured(case, saved, when):
    only(case, "dit")
    model, prompts = saved

    def tell(phase, done, total):
        if phase == when:
            raise KeyboardInterrupt

    options = {"methods": "fora:interval=2", "peers": "none", "points": (2.0,), "prompts": prompts, "steps": 10}
    results = bench(model, **options, batch=1, tell=tell)
    assert results.interrupted
    assert [row.curve for row in results.rows] == ([] if when.startswith("warming") else ["uncached"])


def test_an_interrupted_round_is_left_out(case, saved):
    only(case, "dit")
    model, prompts = saved

    def tell(phase, done, total):
        if done == total // 2 + 1 and phase != "done" and total == 2 * 5:  # in the second of two rounds
            raise KeyboardInterrupt

    options = {"methods": "fora:interval=2", "peers": "none", "points": (2.0,), "prompts": prompts, "steps": 10}
    results = bench(model, **options, batch=1, tell=tell)
    assert results.interrupted
    assert [row.pictures for row in results.rows] == [1] * 5
    assert {len(values) for metrics in results.by_picture.values() for values in metrics.values()} == {1}


def test_pictures_that_are_not_finite_cost_their_own_row_alone(case, saved, monkeypatch, tmp_path):
    only(case, "dit")
    model, prompts = saved
    score = Match._draw

    def draw(self, entry, number):
        output, *others = score(self, entry, number)
        if entry.contender.curve == "fora:interval=2" and number == 1:
            output.images[0, 0] = math.nan
        return output, *others

    monkeypatch.setattr(Match, "_draw", draw)
    options = {"methods": "fora:interval=2", "peers": "none", "points": (2.0,), "prompts": prompts, "steps": 10}
    results = bench(model, **options, batch=1)
    failed = {row.curve: row.failed for row in results.rows if row.failed}
    assert failed == {"fora:interval=2": "batch 1 holds numbers that are not finite"}
    write_results(results, tmp_path / "results")


def test_what_cannot_be_asked_is_refused_before_anything_is_loaded(tmp_path):
    for options, message in (
        ({"methods": "foro"}, "unknown method 'foro'"),
        ({"peers": "cachedit"}, "unknown peer 'cachedit'"),
        ({"points": (1.0, 2.0)}, "points="),
        ({"prompts": 0}, "prompts=0"),
        ({"batch": 0}, "batch=0"),
        ({"steps": 0}, "steps=0"),
        ({"guidance": -1.0}, "guidance=-1"),
    ):
        with pytest.raises((OptionError, UnknownNameError), match=message):
            bench(tmp_path / "no-such-model", **options)
