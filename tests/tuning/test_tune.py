"""Tuning a tiny model: what it finds holds what was asked, runs, and survives being killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

import tocache
from tocache.errors import OptionError
from tocache.generation import load_pipeline
from tocache.methods import Placed
from tocache.plan import load_plan, save_plan
from tocache.tuning import Goal, tune
from tocache.tuning.memo import LINES
from tocache.tuning.observe import Answers, watched
from tocache.tuning.search import even

SMALL = {"batch": 2, "steps": 12, "trials": 3, "against": ()}
TWICE = Goal(speedup=2.0, by="flops")


def lines_of(folder):
    return [json.loads(line) for line in (folder / LINES).read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    memo = tmp_path_factory.mktemp("tuned") / "plan.trials"
    said = []
    tuned = tune(tiny[0], TWICE, prompts=tiny[1], memo=memo, tell=said.append, **SMALL | {"against": ("taylorseer",)})
    return tuned, memo, said


def test_it_keeps_the_wished_ratio(found):
    tuned, _, _ = found
    assert tuned.ratio >= 2.0
    assert tuned.method.of == 12
    assert tuned.pictures == (4, 2)
    assert tuned.measure == "pixels"


def test_it_is_the_best_of_what_was_measured_on_all_pictures(found):
    tuned, memo, _ = found
    both = [set(), set()]
    values = {}
    for line in lines_of(memo):
        where, number, method = line["name"].split("/", 2)
        if where == "tuned on":
            both[int(number)].add(method)
            values.setdefault(method, []).extend(line["value"])
    losses = {method: sum(value**0.5 for value in values[method]) / 4 for method in both[0] & both[1]}
    # probes are full but for one step, and not asked for
    losses = {method: loss for method, loss in losses.items() if method.count(",") < 20}
    assert min(losses, key=losses.get) == str(tuned.method)
    assert losses[str(tuned.method)] ** 2 == pytest.approx(tuned.loss)


def test_what_it_found_is_compared_on_other_pictures_at_no_higher_price(found):
    tuned, memo, _ = found
    by_name = {one.name: one for one in tuned.compared}
    assert next(iter(by_name)) == "tuned"
    assert {"even", "taylorseer", "paper-ddim50"} <= set(by_name)
    assert by_name["even"].ratio >= 2.0
    assert by_name["taylorseer"].ratio >= tuned.ratio
    assert all(one.measured is None for one in tuned.compared)
    held_out = [line for line in lines_of(memo) if line["name"].startswith("held out/")]
    assert {line["name"].rpartition("/")[2] for line in held_out} == {one.setting for one in tuned.compared}


def test_a_second_run_measures_nothing_new(found, tiny):
    tuned, memo, _ = found
    before = (memo / LINES).read_text()
    again = tune(tiny[0], TWICE, prompts=tiny[1], memo=memo, **SMALL | {"against": ("taylorseer",)})
    assert (again.method, again.compared) == (tuned.method, tuned.compared)
    assert (memo / LINES).read_text() == before


def test_it_tells_how_far_it_is_and_the_best_so_far(found):
    _, _, said = found
    assert all(one.done <= one.total for one in said)
    assert {one.phase for one in said} >= {"uncached", "weighing steps", "searching", "held-out prompts"}
    assert said[-1].best.startswith(f"loss {found[0].loss:.4g}: {len(found[0].method.full)} full")


def test_the_plan_runs_as_it_says_and_knows_where_it_is_from(found, tiny, tmp_path):
    tuned, _, _ = found
    save_plan(tuned.plan, tmp_path / "plan.json")
    plan = load_plan(tmp_path / "plan.json")
    assert plan.origin == tuned.plan.origin
    assert plan.origin["goal"] == "2× fewer flops"
    assert plan.origin["loss, tuned on"] == tuned.loss
    pipe = load_pipeline(tiny[0])
    with tocache.enabled(pipe, str(tmp_path / "plan.json")):
        pipe([207], num_inference_steps=12, output_type="latent")
        report = tocache.report(pipe)
    assert report.overruled == 0
    assert [report.plan.kind_of_step(s) == "full" for s in range(12)] == [s in tuned.method.full for s in range(12)]


def test_the_fastest_plan_holds_the_loss(found, tiny):
    tuned, memo, _ = found
    faster = tune(tiny[0], Goal(max_loss=2 * tuned.loss, by="flops"), prompts=tiny[1], memo=memo, **SMALL)
    assert faster.loss <= 2 * tuned.loss
    assert faster.ratio >= tuned.ratio


def test_other_weights_do_not_go_on_with_what_was_measured(found, tiny, tmp_path):
    shutil.copytree(tiny[0], tmp_path / "model")
    memo = tmp_path / "plan.trials"
    tune(tmp_path / "model", TWICE, prompts=tiny[1], memo=memo, **SMALL | {"trials": 1})
    weights = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(OptionError, match="weights"):
        tune(tmp_path / "model", TWICE, prompts=tiny[1], memo=memo, **SMALL | {"trials": 1})


def test_a_loss_that_nothing_holds_is_refused_with_the_least(tiny, found):
    with pytest.raises(OptionError, match="with one step of 12 reused the loss is"):
        tune(tiny[0], Goal(max_loss=1e-30, by="flops"), prompts=tiny[1], memo=found[1], **SMALL)


@pytest.mark.slow
def test_seconds_are_predicted_and_measured(deep, tmp_path):
    small = SMALL | {"trials": 1, "prompts": deep[1], "memo": tmp_path}
    tuned = tune(deep[0], Goal(speedup=1.2), **small)
    assert tuned.ratio >= 1.2
    assert tuned.compared[0].measured > 0
    assert {"seconds, uncached", "seconds, predicted", "speedup, measured", "hardware"} <= set(tuned.plan.origin)
    with pytest.raises(
        OptionError, match=r"latency=1e-06 s is not allowed: .* s here without a cache, and .* s with one"
    ):
        tune(deep[0], Goal(latency=1e-6), **small)
    latency = tuned.clock.uncached / 1.1
    limited = tune(deep[0], Goal(latency=latency), **small)
    assert limited.plan.origin["seconds, predicted"] <= latency


_KILLED = """
import sys
from pathlib import Path
from tocache.tuning import Goal, tune
model, prompts, memo = map(Path, sys.argv[1:])
small = {"batch": 2, "steps": 12, "trials": 3, "against": ("taylorseer",)}
tune(model, Goal(speedup=2.0, by="flops"), prompts=prompts, memo=memo, **small)
"""


@pytest.mark.slow
def test_a_killed_tuning_loses_one_measurement_at_most_and_ends_as_if_it_had_not_been(found, tiny, tmp_path):
    tuned, whole, _ = found
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, *map(str, tiny), str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        until = time.monotonic() + 240
        while time.monotonic() < until and process.poll() is None:
            if (tmp_path / LINES).exists() and len((tmp_path / LINES).read_bytes().splitlines()) > 15:
                break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    kept = (tmp_path / LINES).read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    again = tune(tiny[0], TWICE, prompts=tiny[1], memo=tmp_path, **SMALL | {"against": ("taylorseer",)})
    assert (tmp_path / LINES).read_bytes().startswith(kept)
    names = [line["name"] for line in lines_of(tmp_path)]
    assert len(names) == len(set(names))
    assert names == [line["name"] for line in lines_of(whole)][: len(names)]
    assert (again.method, again.loss) == (tuned.method, tuned.loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": Goal(speedup=13.0, by="flops")}, "with 12 steps: up to 12"),
        ({"trials": 0}, "trials=0"),
        ({"steps": 1, "goal": Goal(max_loss=0.1, by="flops")}, "steps=1 is not allowed; allowed: 2 or more"),
        ({"against": ("toka",)}, "did you mean 'toca'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(tiny, options, message):
    with pytest.raises(OptionError, match=message):
        tune(tiny[0], **(SMALL | {"goal": TWICE, "prompts": tiny[1]} | options))


def test_one_prompt_leaves_none_to_hold_out(tiny, tmp_path):
    (tmp_path / "one.txt").write_text("207\n")
    with pytest.raises(OptionError, match="at least 2"):
        tune(tiny[0], TWICE, prompts=tmp_path / "one.txt", **SMALL)


def test_even_distances_begin_with_the_first_step():
    assert even(4, 12) == (0, 3, 6, 9)
    assert even(5, 12) == (0, 2, 4, 7, 9)
    assert even(12, 12) == tuple(range(12))


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
        assert placed.moved(20) == (0, 1, 2, 3, 4, 6, 8, 11, 14, 17)
        assert placed.moved(5) == (0, 2)
        assert placed.moved(3) == (0, 1)
        assert placed.moved(1) == (0,)

    @pytest.mark.parametrize("full", [(), (1, 2), (0, 2, 2), (0, 3, 1), (0, 10), (0, 1.5), 7])
    def test_steps_that_cannot_be_are_refused(self, full):
        with pytest.raises(OptionError, match="full="):
            Placed(full, of=10)

    @pytest.mark.parametrize("partial", [(0,), (3, 2), (10,), (1.0,)])
    def test_a_partial_step_is_no_full_one(self, partial):
        with pytest.raises(OptionError, match="partial="):
            Placed((0, 5), of=10, where="sublayers", partial=partial)

    def test_a_stack_has_no_single_tokens(self):
        with pytest.raises(OptionError, match='unless where="sublayers"'):
            Placed((0, 5), of=10, partial=(3,))

    def test_fresh_tokens_are_computed_in_the_partial_steps_alone(self, found):
        placed = Placed((0, 5), of=10, where="sublayers", partial=(2, 7), fresh_ratio=0.5)
        plan = placed.plan(_without_regions(found[0].plan.anatomies), 10)
        assert [plan.kind_of_step(s) for s in range(10)] == [
            {0: "full", 5: "full", 2: "partial", 7: "partial"}.get(s, "reuse") for s in range(10)
        ]
        amounts = {site.kind: int(n) for site, n in zip(plan.sites, plan.fresh[2, 0], strict=True)}
        assert amounts == {"self-attention": 0, "mlp": 2}  # of four tokens


def _without_regions(anatomies):
    from tocache.plan.anatomy import REGION

    return [
        replace(
            one,
            sites=tuple(site for site in one.sites if site.kind != REGION),
            costs=tuple(cost for site, cost in zip(one.sites, one.costs, strict=True) if site.kind != REGION),
        )
        for one in anatomies
    ]
