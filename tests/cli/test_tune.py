"""`tocache tune` as a stranger meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tocache.cli.app import app
from tocache.demo.random_pipelines import random_class_pipeline
from tocache.plan import load_plan


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_class_pipeline(depth=2, hidden=32, heads=2, sample_size=4).save_pretrained(folder)
    (folder / "prompts.txt").write_text("207\n270\n")
    return folder


def call(model: Path, *arguments: object) -> Result:
    given = ["tune", "--model", model, "--prompts", model / "prompts.txt", "--steps", 12, "--trials", 2, *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in given])


def test_a_small_tuning(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = call(model, "--by", "flops", "-o", out)
    assert result.exit_code == 0, result.output
    for part in ("× fewer FLOPs: ", "of 12 steps are full", "held-out", "1 − SSIM", "toca", "paper-ddim50", "saved:"):
        assert part in result.stdout
    plan = load_plan(out)
    assert [plan.kind_of_step(step) for step in range(12)].count("full") <= 4
    assert plan.method.startswith("Placed(")
    assert plan.origin["made by"] == "tocache tune"
    assert (tmp_path / "plan.trials").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--speedup", 0.5), "above 1"),
        (("--latency", "soon"), "2.0s or 800ms"),
        (("--latency", "2s", "--max-loss", 0.1), "give one of speedup, latency, max_loss"),
    ],
)
def test_what_cannot_be_is_one_line(model: Path, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    result = call(model, *options, "-o", tmp_path / "plan.json")
    assert result.exit_code != 0
    assert message in result.stderr
    assert not list(tmp_path.iterdir())
