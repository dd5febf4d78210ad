"""`tocache sample` and `tocache pack` as a stranger meets them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from tocache.cli.app import app
from tocache.cli.show_sampled import duration, rest, sampling_bar
from tocache.sampling import State


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sample(folder: Path, *more: object) -> Result:
    options = (
        "--model",
        "demo:random-class",
        "--classes",
        "0-4",
        "--batch",
        2,
        "--steps",
        2,
        "--method",
        "none",
        "--device",
        "cpu",
    )
    return call("sample", *options, "-o", folder, *more)


def test_a_folder_goes_on_and_is_packed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    result = sample(folder, "--num", 2)
    assert result.exit_code == 0, result.output
    assert "s: 2 of 2 pictures, 2 of them drawn now in" in result.stdout.replace("\n", "")
    result = sample(folder)
    assert "s: 5 of 5 pictures, 3 of them drawn now in" in result.stdout.replace("\n", "")
    assert sample(folder).stdout.strip().endswith("s: 5 of 5 pictures")
    result = call("pack", folder, "-o", tmp_path / "s.npz")
    assert result.exit_code == 0, result.output
    assert "saved: " in result.stdout
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["arr_0"].shape == (5, 256, 256, 3)
        assert arrays["arr_1"].tolist() == [0, 1, 2, 3, 4]


def test_what_cannot_be_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    sample(tmp_path / "s", "--num", 2)
    for arguments, part in (
        (("--seed", 1), "seed: 0 there, 1 here"),
        (("--prompts", "absent.txt"), "either prompts, a file, or classes"),
        (("--workers", 2), "workers is for Ray"),
        (("--format", "gif"), "allowed: png, tar"),
    ):
        result = sample(tmp_path / "s", *arguments)
        assert result.exit_code != 0
        assert part in " ".join(result.output.split())
    assert sample(tmp_path / "s", "--num", 2).exit_code == 0


def test_skipped_prompts_are_told(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("3\nno such class\n")
    options = ("--model", "demo:random-class", "--batch", 2, "--steps", 2, "--method", "none", "--device", "cpu")
    result = call("sample", *options, "--prompts", tmp_path / "prompts.txt", "-o", tmp_path / "s")
    assert result.exit_code == 0, result.output
    assert "1 prompts could not be drawn and were skipped" in result.stdout
    assert "picture 1: UnknownNameError: unknown class 'no such class'" in result.stdout
    result = call("pack", tmp_path / "s", "-o", tmp_path / "s.npz")
    assert "1 of 2 pictures are not there and left out" in result.stdout


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with sampling_bar(Console(file=file, width=80), between=0) as tell:
        tell(State(num=50_000, done=12_000, skipped=3, now=64, workers=8, replaced=1))
    line = file.getvalue().strip()
    assert line.startswith("12,003 of 50,000: ")
    assert line.endswith("8 workers, 1 replaced, 3 skipped")
    with sampling_bar(Console(file=file, width=80), between=3600) as tell:
        for done in range(1, 5):
            tell(State(50, done, 0, done))
    assert len(file.getvalue().splitlines()) == 2  # one more


def test_progress_is_a_bar_on_a_terminal() -> None:
    file = io.StringIO()
    with sampling_bar(Console(file=file, width=100, force_terminal=True)) as tell:
        tell(State(num=50_000, done=12_000, skipped=0, now=64, workers=1))
    assert "12000/50000" in file.getvalue()
    assert "left" in file.getvalue()


def test_rate_and_time_left() -> None:
    state = State(num=1000, done=400, skipped=0, now=100)
    assert rest(state, 50.0) == "2/s, 5 min left"
    assert rest(State(1000, 0, 0, 0), 50.0) == "0/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
