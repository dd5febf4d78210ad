"""Methods compared on the same prompts: what is drawn, measured and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tocache
from tocache.errors import OptionError, PlanFileError, UnknownNameError
from tocache.evaluation.clock import Seconds
from tocache.evaluation.prompts import Task
from tocache.evaluation.scores import EQUAL, PSNR, SSIM
from tocache.generation import load_pipeline, psnr
from tocache.methods import FORA, ToCa
from tocache.plan import ALL
from tocache.planning import plan_model, write_plan
from tocache.reporting import Column, Comparison, Drawn, compare

CLASS = "demo:random-class"
METHODS = 'toca:fresh_ratio=0.3:scores={"norm": 1},fora,none'


@pytest.fixture(scope="module")
def compared() -> tuple[Comparison, list[tuple[str, int, int]]]:
    """One comparison, which several tests look at."""
    told: list[tuple[str, int, int]] = []
    found = compare(
        CLASS,
        methods=METHODS,
        prompts=("207", "otter"),
        steps=9,
        seed=5,
        device="cpu",
        tell=lambda *x: told.append(x),
    )
    return found, told


def test_pictures_are_those_that_the_pipeline_draws(compared: tuple[Comparison, Any]) -> None:
    pipe = load_pipeline(CLASS, device="cpu")
    for number, label in enumerate((207, 360)):
        arguments: dict[str, Any] = {"class_labels": [label], "num_inference_steps": 9}

        def draw(given: dict[str, Any] = arguments, seed: int = 5 + number) -> Any:
            return pipe(**given, generator=torch.Generator().manual_seed(seed)).images[0]

        expected = [draw()]
        for method in (ToCa(fresh_ratio=0.3, scores={"norm": 1}), FORA()):
            with tocache.enabled(pipe, method):
                expected.append(draw())
        shown = [column.drawn[number].frames[0] for column in compared[0].columns[:3]]
        assert [psnr(a, b) for a, b in zip(shown, expected, strict=True)] == [float("inf")] * 3
        assert psnr(shown[0], shown[1]) < 60


def test_columns_are_named_as_asked(compared: tuple[Comparison, Any]) -> None:
    labels = [column.label for column in compared[0].columns]
    assert labels == ["without cache", 'toca:fresh_ratio=0.3:scores={"norm": 1}', "fora", "none"]
    assert compared[0].columns[0].plan is None
    assert [task.seed for task in compared[0].tasks] == [5, 6]


def test_a_method_that_changes_nothing_is_equal(compared: tuple[Comparison, Any]) -> None:
    equal = compared[0].columns[3]
    assert equal.figure(PSNR) == {"mean": EQUAL, "low": EQUAL, "high": EQUAL}
    assert [one.scores[SSIM] for one in equal.drawn] == pytest.approx([1.0, 1.0])
    assert PSNR not in compared[0].columns[0].drawn[0].scores


def test_maps_add_up_to_the_tokens_of_the_plan(compared: tuple[Comparison, Any]) -> None:
    for column in compared[0].columns[1:]:
        assert column.plan is not None
        rows = [i for i, site in enumerate(column.plan.sites) if site.rows]
        amounts = column.plan.amounts[:, 0, rows]
        by_step = np.where(amounts == ALL, 256, amounts).mean(axis=1) / 256
        for one in column.drawn:
            assert one.fresh is not None
            assert one.fresh.shape == (9, 16, 16)
            np.testing.assert_allclose(one.fresh.mean(axis=(1, 2)), by_step)
    chosen = compared[0].columns[1].drawn[0].fresh
    assert chosen is not None
    partial = [step for step in chosen if 0 < step.mean() < 1]
    assert any(step.min() < step.max() for step in partial)


@pytest.mark.slow
def test_maps_of_videos_have_frames(videos: Comparison) -> None:
    (one,) = videos.columns[1].drawn
    assert one.fresh is not None
    assert videos.columns[1].plan is not None
    grid = videos.columns[1].plan.anatomies[0].shape.grid
    assert grid is not None
    assert one.fresh.shape == (9, *grid)
    assert (one.fresh[0] == 1).all()
    assert any(step.min() < step.max() for step in one.fresh)
    assert len(one.frames) > 1
    assert videos.fps > 0


def test_progress_ends_at_its_total(compared: tuple[Comparison, list[tuple[str, int, int]]]) -> None:
    drawing = [(done, total) for phase, done, total in compared[1] if phase != "warming up"]
    assert {total for _, total in drawing} == {2 * 4 * 9}
    assert [done for done, _ in drawing] == list(range(1, 2 * 4 * 9 + 1))


def test_about_says_what_figures_depend_on(compared: tuple[Comparison, Any]) -> None:
    about = compared[0].about
    assert about["steps"] == 9
    assert about["dtype"] == "float32"
    assert about["versions"]["torch"] == torch.__version__
    assert about["hardware"]


def test_speedup_is_the_median_over_pairs() -> None:
    def drawn(*totals: float) -> list[Drawn]:
        return [Drawn((), Seconds(None, total), None, {}) for total in totals]

    columns = (Column("without cache", None, drawn(1.0, 2.0, 9.0)), Column("fora", FORA(), drawn(0.5, 0.5, 9.0)))
    found = Comparison({}, (Task("a", 0),) * 3, columns, 24.0, {})
    assert found.speedup(columns[1]) == 2.0
    assert found.speedup(columns[1], "loop") is None
    assert columns[1].median_seconds() == 0.5
    assert columns[1].median_seconds("loop") is None


def test_an_interruption_keeps_whole_prompts() -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if done > 3 * 9 + 2:  # in the second prompt's first picture
            raise KeyboardInterrupt

    found = compare(CLASS, methods="fora,none", prompts=("1", "2"), steps=9, device="cpu", tell=stop)
    assert found.interrupted
    assert len(found.tasks) == 1
    assert [len(column.drawn) for column in found.columns] == [1, 1, 1]


def test_nothing_to_keep_is_an_interruption() -> None:
    def stop(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(CLASS, methods="fora", prompts=("1",), steps=9, device="cpu", tell=stop)


def test_steps_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    write_plan(plan_model(CLASS, FORA(2), steps=9, dtype="fp32"), plan)
    found = compare(CLASS, methods=f"{plan},toca", prompts=("1",), device="cpu")
    assert [column.plan.steps for column in found.columns if column.plan] == [9, 9]
    with pytest.raises(OptionError, match=r"plan.json for 9, paper-ddim50 for 50\); give steps"):
        compare(CLASS, methods=f"{plan},paper-ddim50", prompts=("1",), device="cpu")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"methods": "tocca"}, UnknownNameError, "did you mean 'toca'"),
        ({"methods": "toca:rate=1"}, OptionError, "no option 'rate'"),
        ({"methods": "missing.json"}, PlanFileError, "missing.json"),
        ({"methods": "paper-r70"}, OptionError, "is for the family 'pixart'"),
        ({"prompts": 0}, OptionError, "prompts=0"),
        ({"prompts": ()}, OptionError, "at least one"),
        ({"prompts": ("zebu crossing",)}, UnknownNameError, "unknown class"),
        ({"steps": 0}, OptionError, "steps=0"),
        ({"guidance": -1.0}, OptionError, "guidance"),
        ({"model": "demo:tex"}, UnknownNameError, "demo:text"),
        ({"duration": "2s"}, OptionError, "videos"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(
    options: dict[str, Any], error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocache.reporting.comparison.timed", lambda *_: pytest.fail("something was drawn"))
    arguments: dict[str, Any] = {"model": CLASS, "methods": "fora", "prompts": ("1",), "device": "cpu"} | options
    with pytest.raises(error, match=words):
        compare(arguments.pop("model"), **arguments)
