"""`tocache tune` as a stranger meets it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from tocache.cli.app import app
from tocache.plan import load_plan


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tune", "--model", "demo:random-class", *(str(a) for a in arguments)])


def test_a_small_tuning(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = call("--prompts", 2, "--steps", 12, "--speedup", 3, "--trials", 2, "-o", out)
    assert result.exit_code == 0, result.output
    for part in ("4 of 12 steps are full", "held-out", "1 − SSIM", "saved:"):
        assert part in result.stdout
    plan = load_plan(out)
    assert [plan.kind_of_step(step) for step in range(12)].count("full") == 4
    assert plan.method.startswith("Placed(")
    assert (tmp_path / "plan.trials.json").exists()


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    result = call("--speedup", 0.5, "-o", tmp_path / "plan.json")
    assert result.exit_code != 0
    assert not (tmp_path / "plan.json").exists()
