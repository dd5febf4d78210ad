"""`tocache evaluate` as a stranger meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tocache.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def said(result: Result) -> str:
    """What was printed, without line breaks of the terminal."""
    return " ".join(result.stdout.split())


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of noise, samples/ and real/, and an extractor in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "spread_of_channels.py").write_text(
        "def extract(pictures):\n    return pictures.flatten(2).std(dim=2)\n"
    )
    dice = np.random.default_rng(0)
    for name, scale in (("samples", 60), ("real", 50)):
        (tmp_path / name).mkdir()
        for i in range(20):
            pixels = (128 + scale * dice.standard_normal((16, 16, 3)) * dice.uniform(0.5, 1)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i:03d}.png")
    return tmp_path


def test_a_report_is_printed_and_written(folders: Path) -> None:
    options = ("--features", "spread_of_channels:extract", "-o", "out/report.json")
    result = call("samples", "--reference", "real", "--against", "real", *options)
    assert result.exit_code == 0, result.output
    text = said(result)
    for part in (
        "samples: 20 pictures, 16 × 16",
        "reference: real (20 pictures, a manifold of 20)",
        "FID ↓",
        "PSNR, dB ↑",
    ):
        assert part in text
    assert "not measured: is: spread_of_channels:extract gives no logits" in text
    assert "note: FID of 20 pictures lies above that of more" in text
    report = json.loads(Path("out/report.json").read_text())
    assert set(report["figures"]) == {"fid", "precision", "recall", "psnr", "ssim"}
    assert report["figures"]["fid"]["low"] < report["figures"]["fid"]["value"] < report["figures"]["fid"]["high"]
    assert report["about"]["command"].startswith("tocache")
    assert list((folders / "cache/tocache/references").iterdir())


def test_a_reference_is_saved_and_used(folders: Path) -> None:
    features = ("--features", "spread_of_channels:extract", "--no-cache")
    saved = call("real", "--metrics", "is", "--save-reference", "ref.npz", *features)
    assert "saved: ref.npz" in saved.stdout
    result = call("samples", "--reference", "ref.npz", "--metrics", "fid", "--no-intervals", *features)
    assert result.exit_code == 0, result.output
    assert "(statistics)" in result.stdout
    assert not (folders / "cache").exists()


def test_results_of_tools_join_a_report(folders: Path) -> None:
    rows = [
        {"tag": "colors", "prompt": "a red cow", "correct": True},
        {"tag": "counting", "prompt": "2", "correct": False},
    ]
    Path("results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("samples", "--against", "real", "--metrics", "psnr", "-o", "report.json")
    result = call("--import", "geneval=results.jsonl", "-o", "report.json")
    assert result.exit_code == 0, result.output
    assert "GenEval (results.jsonl)" in result.stdout
    report = json.loads(Path("report.json").read_text())
    assert report["imported"]["geneval"]["score"] == 0.5
    assert "psnr" in report["figures"]


def test_an_export_says_what_to_do_next(folders: Path) -> None:
    Path("prompts.txt").write_text("".join(f"prompt {i}\n" for i in range(20)))
    result = call("samples", "--prompts", "prompts.txt", "--export", "image-reward=out")
    assert result.exit_code == 0, result.output
    assert "20 files for ImageReward: out" in result.stdout
    assert "test-benchmark.py --prompts_path" in result.stdout
    assert len(list(Path("out/generations/tocache").iterdir())) == 20
    assert "PSNR" not in result.stdout


def test_prompts_of_a_tool_are_written_for_sampling(folders: Path) -> None:
    Path("p.json").write_text('["a cat", "sea"]')
    result = call("--prompts-of", "hps=p.json", "-o", "p.txt")
    assert result.stdout == "2 prompts saved: p.txt\n"
    assert Path("p.txt").read_text() == "a cat\nsea\n"


def test_a_paper_is_printed_with_what_is_missing(folders: Path) -> None:
    result = call("--paper", "dit", "--data", "my-data")
    assert result.exit_code == 0, result.output
    for part in ("2.43", "--reference my-data/VIRTUAL_imagenet256_labeled.npz", "Missing here", "paper-ddim50"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give samples"),
        (("nowhere",), "nowhere: is not there"),
        (("samples", "--metrics", "fidd"), "unknown metric 'fidd'; did you mean 'fid'"),
        (("samples", "--metrics", "psnr"), "nothing can be measured: psnr: pairs pictures with others"),
        (("samples", "--features", "inceptoin"), "features='inceptoin' is not allowed"),
        (("samples", "--against", "samples", "--batch", "0"), "batch=0 is not allowed"),
        (("samples", "--export", "geneval=out"), "the prompts are not known"),
        (("--export", "geneval=out"), "give samples"),
        (("--import", "vbench"), "allowed: tool=path"),
        (("--prompts-of", "hps=p.json"), "-o says which"),
        (("--paper", "pixat"), "unknown paper 'pixat'; did you mean 'pixart'"),
    ],
)
def test_errors_are_one_line_and_write_nothing(folders: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(folders.rglob("*"))
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert [path for path in sorted(folders.rglob("*")) if "__pycache__" not in path.parts] == before
