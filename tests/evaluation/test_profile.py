"""Traces of single steps, and where their time goes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import tocache
from tocache.engine import pass_run, visit
from tocache.errors import OptionError
from tocache.evaluation.profile import UNCACHED, Profile, chosen_steps, profile, profile_model
from tocache.evaluation.profile_ranges import (
    ATTENTION_PART,
    CHOOSING,
    MLP_PART,
    MOVING,
    OUTSIDE,
    PARTS,
    READING,
    REST,
    SERVING,
    ranges,
)
from tocache.evaluation.prompts import Task, batch_arguments
from tocache.planning import plan_model

STEPS = 9


def profiled(case: Any, pipe: Any, method: Any) -> Profile:
    options = {"steps": STEPS, "guidance": None}
    return profile(pipe, method, lambda: batch_arguments(pipe, [Task(case.prompts[0], 0)], options))


@pytest.fixture
def pipe(case: Any) -> Any:
    if case.name not in ("dit", "flux"):
        pytest.skip("blocks of both kinds: DiT and FLUX")
    return case.make()


def test_every_kind_of_step_has_all_its_time_somewhere(case: Any, pipe: Any, tmp_path: Path) -> None:
    runs = [profiled(case, pipe, tocache.ToCa(interval=3, fresh_ratio=0.3)) for _ in range(3)]
    found = runs[0]
    assert list(found.steps) == list(found.parts)
    assert {UNCACHED, "full", "partial"} <= set(found.steps)
    for kind in found.steps:
        shares = found.shares(kind)
        assert list(shares) == list(PARTS)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares[REST] > 0
        assert shares[OUTSIDE] > 0
    partial, full, uncached = (found.parts[kind] for kind in ("partial", "full", UNCACHED))
    assert min(partial[CHOOSING], partial[MOVING], partial[SERVING], partial[MLP_PART]) > 0
    # It is served, in DiT in all blocks but the first; of three runs the least, as other work may fall into one.
    least = [min(run.parts[kind][ATTENTION_PART] for run in runs) for kind in ("partial", "full")]
    assert least[0] < least[1]
    assert full[READING] > 0  # column sums, which the partial steps choose by
    assert all(uncached[part] == 0 for part in (CHOOSING, READING, MOVING, SERVING))

    trace, table = found.write(tmp_path / "out")
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    named = {event["name"]: event for event in events if "dur" in event}
    assert {f"tocache step: {kind}" for kind in found.steps} <= set(named)
    assert CHOOSING in named
    assert any(name.startswith("aten::") for name in named)
    step = named["tocache step: partial"]
    assert step["dur"] / 1e6 == pytest.approx(sum(partial.values()), rel=0.05)  # nothing is lost, nothing counted twice
    figures = json.loads(table.read_text(encoding="utf-8"))
    assert sum(figures["shares"]["partial"].values()) == pytest.approx(1)


def test_steps_stand_one_after_the_other_in_the_trace(case: Any, pipe: Any) -> None:
    found = profiled(case, pipe, tocache.FORA(3))
    assert list(found.steps) == [UNCACHED, "full", "reuse"]
    spans = [e for e in found.trace["traceEvents"] if e.get("name", "").startswith("tocache step") and "dur" in e]
    spans.sort(key=lambda event: event["ts"])
    assert len(spans) == 3
    for before, after in pairwise(spans):
        assert before["ts"] + before["dur"] <= after["ts"]
    assert not {"host_name", "traceName"} & set(found.trace)


def test_nothing_stays_of_it(case: Any, pipe: Any) -> None:
    functions = [pass_run.PassRun.choose, pass_run.PassRun.blend, visit.Visit.take, visit.gather_rows]
    drawn = case.draw(pipe)
    profiled(case, pipe, tocache.ToCa(interval=3, fresh_ratio=0.3))
    assert functions == [pass_run.PassRun.choose, pass_run.PassRun.blend, visit.Visit.take, visit.gather_rows]
    for module in pipe.transformer.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))
    assert torch.equal(case.draw(pipe), drawn)


def test_ranges_end_where_a_forward_raises(case: Any, pipe: Any) -> None:
    plan = plan_model("dit-xl-2-256", steps=4)
    with ranges(pipe, plan), pytest.raises(Exception, match=r"."):
        pipe.transformer(None)
    assert not any(module._forward_hooks for module in pipe.transformer.modules())


def test_the_partial_step_is_one_of_median_size() -> None:
    plan = plan_model("pixart-xl-2-256", "paper-r70")
    chosen = chosen_steps(plan)
    partial = [s for s in range(plan.steps) if plan.kind_of_step(s) == "partial"]
    fresh = sorted(int(plan.amounts[s].clip(min=0).sum()) for s in partial)
    assert int(plan.amounts[chosen["partial"]].clip(min=0).sum()) == fresh[len(fresh) // 2]
    assert chosen["full"] > 0
    assert chosen_steps(plan_model("pixart-xl-2-256", steps=1)) == {"full": 0}


def test_one_method_at_a_time() -> None:
    with pytest.raises(OptionError, match="allowed: one method, or one plan file"):
        profile_model("demo:random-class", "fora,toca")
