"""`tocache bench` as a stranger meets it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version
from typer.testing import CliRunner, Result

from tocache.cli.app import app
from tocache.demo.random_pipelines import random_class_pipeline


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments)])


def test_a_small_benchmark(tmp_path: Path) -> None:
    random_class_pipeline(depth=4, sample_size=16).save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("207\n270\n")
    options = ("--methods", "fora:interval=2", "--peers", "diffusers-taylorseer", "--points", 2, "--batch", 1)
    model = ("--model", tmp_path / "model", "--prompts", tmp_path / "prompts.txt", "--steps", 10)
    result = call(*model, *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    reason = "no module of" if Version(version("diffusers")) >= Version("0.42") else "needs diffusers 0.42"
    for part in ("DiTTransformer2DModel", "FORA(interval=2)", "5 steps", "took no part", reason, "saved:"):
        assert part in result.stdout
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["command"].startswith("tocache")
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 20_000
    assert (tmp_path / "out" / "results.csv").read_text().startswith("curve,")


@pytest.mark.parametrize("width", ["80", "200"])
def test_a_profile_instead(width: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    random_class_pipeline(depth=2, sample_size=8).save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("207\n")
    model = ("--model", tmp_path / "model", "--prompts", tmp_path / "prompts.txt", "--steps", 8, "--batch", 1)
    result = call("--profile", *model, "--methods", "toca:fresh_ratio=0.3", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for part in ("attention", "MLP", "choosing tokens", "gather, scatter", "blending, forecast", "outside of blocks"):
        assert any(line.startswith(part) for line in lines), part
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"trace.json", "profile.json"}
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", "two"), "points='two'"),
        (("--points", "1"), "allowed: FLOPs ratios above 1"),
        (("--methods", "foro"), "unknown method 'foro'"),
        (("--peers", "cachedit"), "unknown peer 'cachedit'"),
        (("--model", "demo:txt"), "unknown demo 'demo:txt'"),
        (("--model", "no/such/folder"), "no/such/folder"),
        (("--profile", "--methods", "toca,fora"), "allowed: one method, or one plan file"),
    ],
)
def test_errors_are_one_line_and_write_nothing(arguments: tuple[str, str], message: str, tmp_path: Path) -> None:
    result = call(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
