"""`tocache analyze` as a stranger meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tocache.cli.app import app

SMALL = ("--model", "demo:random-class", "--steps", 9, "--prompts", 1)
STUDIES = {
    "redundancy": (".csv", (), ("moved by", "mlp")),
    "propagation": (".npz", ("--tokens", 2, "--in-steps", 1), ("largest ÷ smallest", "most unlike")),
    "sensitivity": (".csv", ("--probes", 2), ("2 of 192 measured to the end",)),
    "selection": (".npz", ("--method", "toca:interval=2"), ("the most frequent",)),
    "scores": (".csv", ("--tokens", 3, "--in-steps", 1, "--sites", 1, "--scores", "norm,random"), ("captured",)),
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["analyze", *(str(a) for a in arguments)])


@pytest.mark.parametrize("study", STUDIES)
def test_each_study_writes_a_picture_and_its_figures_and_says_what_it_found(study: str, tmp_path: Path) -> None:
    data, options, said = STUDIES[study]
    result = call(study, *SMALL, *options, "-o", tmp_path / "new")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for part in (*said, "demo:random-class: DiTTransformer2DModel", "9 steps, 1 picture"):
        assert part.lower() in text.lower()
    written = [tmp_path / "new" / f"{study}{ending}" for ending in (".png", data, ".json")]
    assert sorted((tmp_path / "new").iterdir()) == sorted(written)
    with Image.open(written[0]) as picture:
        assert picture.width > 600
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 20


def test_all_studies_are_listed() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert all(study in result.stdout for study in STUDIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scores", "--scores", "lenght"), "'lenght'"),
        (("propagation", "--kinds", "cross-attention"), "mlp, self-attention"),
        (("sensitivity", "--probes", "many"), "probes='many'"),
        (("selection", "--method", "fora"), "no choice to show"),
        (("redundancy", "--prompts", "missing.txt"), "missing.txt"),
    ],
)
def test_what_cannot_be_is_an_error_and_writes_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = call(*arguments, "--model", "demo:random-class", "--steps", 9, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = call("redundancy", *SMALL, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not a folder" in result.output
    assert (tmp_path / "out").read_text() == "mine"
