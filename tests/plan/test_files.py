"""A plan as a file: it comes back as it was, and what is no plan is refused with its reason."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from tocache.errors import PlanError, PlanFileError
from tocache.plan import (
    ALL,
    Plan,
    Policy,
    flops_planned,
    flops_scores,
    flops_uncached,
    lifetimes,
    load_plan,
    plan_from_dict,
    plan_to_dict,
    save_plan,
)


@pytest.fixture
def rich(toy) -> Plan:
    """A plan with everything in it: a region, two passes, a copied pass, partial amounts and a policy."""
    passes = [toy(halves="uncond,cond", context=9), toy(rows=4, itemsize=2, name="other")]
    anatomies = tuple(anatomy.with_region("blocks", 1, 2) for anatomy in passes)
    fresh = np.full((4, 2, 10), ALL, dtype=np.int32)
    fresh[1, 0, 1:3], fresh[2, :, 3], fresh[3, 1, 5] = 3, 0, 16
    source = np.array([[-1, -1], [-1, 0], [-1, -1], [-1, -1]], dtype=np.int8)
    policy = Policy({"entropy": 1.0, "influence": 0.1}, 0.25, 3, 0.4, 4, "block", stale="polynomial", order=1, seed=3)
    return Plan(anatomies, fresh, policy, "Mine(π=3)", source)


def test_a_saved_plan_comes_back_as_it_was(rich, tmp_path):
    save_plan(rich, tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again.anatomies == rich.anatomies
    assert again.policy == rich.policy
    assert again.method == "Mine(π=3)"
    for name in ("fresh", "source", "amounts", "choices"):
        before, after = getattr(rich, name), getattr(again, name)
        assert np.array_equal(before, after)
        assert before.dtype == after.dtype
    save_plan(again, str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


def test_a_file_keeps_the_share_of_the_queries_and_says_what_they_cost(rich, tmp_path):
    policy = replace(rich.policy, scores={"influence": 1.0}, queries=0.25)
    sampled, exact = (replace(rich, policy=each) for each in (policy, replace(policy, queries=1.0)))
    save_plan(sampled, tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again.policy == policy
    assert flops_scores(again) == flops_scores(sampled) < flops_scores(exact)


def test_a_file_says_what_the_plan_costs(rich):
    data = json.loads(json.dumps(plan_to_dict(rich)))
    assert (data["format"], data["version"], data["steps"]) == ("tocache-plan", 1, 4)
    assert (data["family"], data["model"]) == ("toy", "Toy")
    assert data["flops_planned"] == flops_planned(rich)
    assert data["flops_uncached"] == flops_uncached(rich)
    assert data["flops_scores"] == flops_scores(rich)
    assert data["cache_bytes"] == lifetimes(rich).peak_bytes


def test_a_newer_version_says_what_can_be_read(rich):
    with pytest.raises(PlanFileError, match="plan version 2 cannot be read; this release reads 1"):
        plan_from_dict(plan_to_dict(rich) | {"version": 2})


@pytest.mark.parametrize("data", [None, 3, "plan", [1], {}, {"format": "gguf"}, {"version": 1}], ids=repr)
def test_what_is_no_plan(data):
    with pytest.raises(PlanFileError, match="this is not a plan"):
        plan_from_dict(data)


def damaged(key: str, value: object):
    def damage(data: dict) -> None:
        *path, last = key.split(".")
        for part in path:
            data = data[int(part)] if isinstance(data, list) else data[part]
        data[int(last) if isinstance(data, list) else last] = value

    return pytest.param(damage, id=f"{key}={value!r}")


@pytest.mark.parametrize(
    "damage",
    [
        damaged("sites", [1]),
        damaged("sites", None),
        damaged("sites.0", "blocks.0.attn"),
        damaged("sites.2.costs", []),
        damaged("sites.2.colour", "red"),
        damaged("sites.2.group", "audio"),
        damaged("sites.3.inside", ["nowhere"]),
        damaged("passes", []),
        damaged("passes", {"rows": 2}),
        damaged("passes.0.grid", 3),
        damaged("passes.0.tokens", None),
        damaged("passes.0.speed", 3),
        damaged("policy", None),
        damaged("policy", ["reuse"]),
        damaged("policy.share", "galaxy"),
        damaged("policy.interval", "3"),
        damaged("policy.scores", 1),
        damaged("fresh", None),
        damaged("fresh.1", [[0]]),
        damaged("fresh.1.0.2", 2**40),
        damaged("fresh.1.0.2", "three"),
        damaged("fresh.1.0.2", 2.5),
        damaged("fresh.1.0.2", 17),
        damaged("source", [[-1, -1]]),
        damaged("source", 3),
        damaged("source.1.1", 300),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(rich, tmp_path, damage):
    data = copy.deepcopy(json.loads(json.dumps(plan_to_dict(rich))))
    damage(data)
    (tmp_path / "bad.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PlanError, match=r"bad\.json: "):
        load_plan(tmp_path / "bad.json")


@pytest.mark.parametrize("key", ["family", "model", "method", "policy", "passes", "sites", "source", "fresh", "notes"])
def test_a_missing_entry_is_named(rich, key):
    data = plan_to_dict(rich)
    del data[key]
    with pytest.raises(PlanFileError, match=f"the plan is damaged: KeyError: '{key}'"):
        plan_from_dict(data)


def test_a_file_that_is_missing_a_folder_or_no_text(tmp_path):
    with pytest.raises(PlanFileError, match=r"gone\.json: No such file"):
        load_plan(tmp_path / "gone.json")
    with pytest.raises(PlanFileError, match="directory"):
        load_plan(tmp_path)
    for content in (b"", b"{", b"\xff\xfe\x00", b'{"format": '):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(PlanFileError, match=r"x\.json: not JSON"):
            load_plan(tmp_path / "x.json")
