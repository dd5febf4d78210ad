"""The ablations: their settings are what they say, one row of each is measured, and every study has its figure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest

ROOT = Path(__file__).parents[2]
EQUAL = ("weights", "interval", "attention", "share")  # studies whose settings all have the same FLOPs


@pytest.fixture(scope="module")
def ablations(script: Any) -> Iterator[ModuleType]:
    with script("ablations") as module:
        yield module


@pytest.fixture(scope="module", params=["demo:text", "demo:class"])
def subject(request: pytest.FixtureRequest, ablations: ModuleType) -> Any:
    return ablations.Subject(request.param)


def settings(ablations: ModuleType, subject: Any, study: str) -> list[Any]:
    return list(ablations.STUDIES[study](subject))


@pytest.mark.parametrize("study", EQUAL)
def test_settings_of_a_study_have_the_same_flops(ablations: ModuleType, subject: Any, study: str) -> None:
    found = [subject.ratio(variant.method) for variant in settings(ablations, subject, study)]
    assert len(found) >= 6
    assert max(found) / min(found) < 1.01


def test_every_score_has_the_same_budget_and_is_compared_with_as_many_flops_of_full_steps(
    ablations: ModuleType, subject: Any
) -> None:
    found = settings(ablations, subject, "scores")
    fresh = {subject.ratio(variant.method) for variant in found if variant.line != "no fresh tokens"}
    assert len(fresh) == 1
    full = {variant.at: subject.ratio(variant.method) for variant in found if variant.line == "no fresh tokens"}
    assert full["reuse"] > 1.2 * fresh.pop()
    assert 0.9 < full["reuse, as many FLOPs"] / subject.ratio(found[0].method) < 1.1


def test_a_budget_that_no_fresh_ratio_meets_is_left_out(ablations: ModuleType, subject: Any) -> None:
    def make(ratio: float) -> Any:
        return subject.fresh(subject.early(4), ratio, ablations.Policy())

    assert subject.at(100.0, make) is None
    assert subject.at(1.0, make) is None
    assert abs(subject.ratio(subject.at(2.0, make)) - 2.0) < 0.02


@pytest.mark.slow
def test_a_study_is_measured_once_for_each_setting_and_drawn(
    ablations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablations, "RESULTS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(sys.modules["ablation_plots"], "IMAGES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--study", "share", "--pictures", "2", "--batch", "2"])
    for _ in range(2):  # the second time in place of the first
        ablations.main()
        rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert len(rows) == 6
    assert all(row["low"] <= row["judge_distance"] <= row["high"] and row["judge_distance"] > 0 for row in rows)
    assert matplotlib.image.imread(tmp_path / "ablation-share.png").std() > 0.05


def test_every_study_is_shown_and_its_figure_has_rows(ablations: ModuleType) -> None:
    page = (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8")
    for study in ablations.STUDIES:
        assert f"images/ablation-{study}.png" in page
        assert (ROOT / "docs" / "images" / f"ablation-{study}.png").is_file()
        assert {row["model"] for row in ablations.rows() if row["study"] == study} == {"demo:text", "demo:class"}
