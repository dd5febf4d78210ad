"""`tocache compare` as a stranger meets it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from tocache.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", "--model", "demo:random-class", *(str(a) for a in arguments)])


def test_a_small_comparison(tmp_path: Path) -> None:
    result = call("--prompt", "otter", "--prompt", 207, "--methods", "fora,none", "--steps", 9, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for part in ("without cache", "fora", "GFLOPs", "equal", "2 prompts", "page saved:", "2 plans"):
        assert part in result.stdout
    assert "otter" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    result = call("--methods", "tocca", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unknown method 'tocca'; did you mean 'toca'?")
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("kept")
    result = call("-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr
    assert (tmp_path / "out").read_text() == "kept"
