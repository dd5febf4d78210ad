"""Tuning a random miniature: what it finds holds what was asked, and runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tocache
from tocache.demo import load_demo
from tocache.errors import OptionError
from tocache.methods import Placed
from tocache.plan.schedule import Spaced
from tocache.tuning import tune
from tocache.tuning.observe import Answers, watched

SMALL = {"prompts": 3, "batch": 2, "steps": 12, "trials": 5}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    memo = tmp_path_factory.mktemp("tuned") / "trials.json"
    said = []
    tuned = tune("demo:random-text", 2.0, memo=memo, tell=lambda *what: said.append(what), **SMALL)
    return tuned, memo, said


def test_it_keeps_the_wished_ratio_and_no_more_steps_would(found):
    tuned, _, _ = found
    assert tuned.speedup >= 2.0
    assert len(tuned.method.full) == 6
    assert tuned.method.of == 12
    assert tuned.pictures == (2, 1)


def test_it_is_no_worse_than_even_distances_where_it_looked(found):
    import json

    _, memo, _ = found
    losses = {tuple(full): loss for full, loss in json.loads(memo.read_text())["losses"]}
    assert losses[found[0].method.full] == min(loss for full, loss in losses.items() if len(full) == 6)
    even = tuple(np.flatnonzero(Spaced(6).full(12, found[0].plan.sites[0])).tolist())
    assert losses[found[0].method.full] <= losses[even]


def test_a_second_run_measures_nothing_new(found):
    tuned, memo, _ = found
    before = memo.read_text()
    again = tune("demo:random-text", 2.0, memo=memo, **SMALL)
    assert again.method == tuned.method
    assert again.losses == tuned.losses
    assert memo.read_text() == before


def test_it_tells_how_far_it_is(found):
    _, _, said = found
    assert all(done <= total for _, done, total in said)
    assert {phase for phase, _, _ in said} >= {"uncached", "weighing the steps", "searching", "done"}


def test_the_plan_runs_as_it_says(found):
    tuned, _, _ = found
    pipe = load_demo("demo:random-text")
    pipe.set_progress_bar_config(disable=True)
    with tocache.enabled(pipe, tuned.plan):
        pipe("a red circle", num_inference_steps=12, output_type="latent", use_resolution_binning=False)
        report = tocache.report(pipe)
    assert report.overruled == 0
    assert [report.plan.kind_of_step(s) for s in range(12)] == [
        "full" if s in tuned.method.full else "reuse" for s in range(12)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speedup": 1.0}, "above 1"),
        ({"speedup": 13.0}, "with 12 steps: up to 12"),
        ({"prompts": 1}, "at least 2"),
        ({"trials": 0}, "trials=0"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(options, message):
    with pytest.raises(OptionError, match=message):
        tune("demo:random-text", **(SMALL | {"speedup": 2.0} | options))


class Scheduler:
    def step(self, model_output, timestep):
        return timestep


def test_answers_are_summed_over_runs_as_inner_products():
    answers, scheduler = Answers(), Scheduler()
    runs = [torch.randn(3, 2, 4), torch.randn(3, 2, 4)]
    for run in runs:
        with watched(scheduler, answers):
            assert [scheduler.step(answer, step) for step, answer in enumerate(run)] == [0, 1, 2]
    flat = torch.cat([run.flatten(1) for run in runs], dim=1).double()
    torch.testing.assert_close(torch.from_numpy(answers.gram), flat @ flat.T, rtol=1e-5, atol=1e-5)
    assert vars(scheduler) == {}


class TestPlaced:
    def test_it_moves_with_the_number_of_steps(self):
        placed = Placed((0, 1, 2, 4, 7), of=10)
        assert placed.moved(10) == (0, 1, 2, 4, 7)
        assert placed.moved(20) == (0, 2, 4, 8, 14)
        assert placed.moved(5) == (0, 1, 2, 3, 4)
        assert placed.moved(3) == (0, 1, 2)

    @pytest.mark.parametrize("full", [(), (1, 2), (0, 2, 2), (0, 3, 1), (0, 10), (0, 1.5), 7])
    def test_steps_that_cannot_be_are_refused(self, full):
        with pytest.raises(OptionError, match="full="):
            Placed(full, of=10)
