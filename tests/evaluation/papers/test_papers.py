"""The commands of published tables: each is one that exists, with the settings of the presets it stands for."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tocache.errors import UnknownNameError
from tocache.evaluation.papers import PAPERS, Paper, check_paper, paper_named
from tocache.evaluation.papers.base import file_need, folder_need
from tocache.methods import METHODS
from tocache.planning import method_from
from tocache.presets import preset_steps, presets_of

FAMILIES = {"pixart": "pixart", "dit": "dit", "opensora": "opensora", "flux": "flux"}


def options(text: str) -> dict[str, str]:
    parts = shlex.split(text)
    return {name.removeprefix("--"): value for name, value in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
class TestPapers:
    def test_each_row_is_a_method_or_preset_of_its_family(self, paper: Paper) -> None:
        for row in paper.rows:
            given = options(row.options)
            assert given.keys() <= {"method", "preset", "interval", "steps"}
            if "preset" in given:
                assert presets_of(FAMILIES[paper.name])[given["preset"]].steps is not None
            else:
                assert given["method"] in METHODS
                interval = int(given["interval"]) if "interval" in given else None
                method_from(given["method"], interval=interval)

    def test_every_preset_of_the_family_with_published_quality_has_a_row(self, paper: Paper) -> None:
        used = {options(row.options).get("preset") for row in paper.rows}
        published = {name for name in presets_of(FAMILIES[paper.name]) if name.startswith("paper-")}
        assert published - used <= {"paper-ddpm250"}

    def test_presets_and_rows_have_the_same_steps(self, paper: Paper) -> None:
        for row in paper.rows:
            given = options(row.options)
            if "preset" in given and "steps" in given:
                assert int(given["steps"]) == preset_steps(given["preset"])

    def test_figures_are_numbers_in_every_column_and_folders_differ(self, paper: Paper) -> None:
        for row in paper.rows:
            assert len(row.published) == len(paper.columns)
            assert all(float(value) > 0 for value in row.published)
        assert len({row.folder for row in paper.rows}) == len(paper.rows)

    def test_the_script_is_one_that_a_shell_can_run(self, paper: Paper, tmp_path: Path) -> None:
        """With `tocache` and `python` as functions that write down how they were called."""
        calls = tmp_path / "calls"
        stand_ins = "".join(
            f'{name}() {{ printf "%s\\n" "{name} $*" >> {calls}; }}\n' for name in ("tocache", "python", "vbench")
        )
        lines = [line for _, commands in paper.steps(tmp_path / "my data") for line in commands]
        subprocess.run(["bash", "-euc", stand_ins + "\n".join(lines)], check=True, cwd=tmp_path)
        made = calls.read_text().splitlines()
        for row in paper.rows:
            drawn = [call for call in made if call.startswith("tocache sample") and f"/{row.folder}" in call]
            assert drawn, row.folder
            assert all(row.options in call for call in drawn)
            assert any(call.startswith("tocache evaluate") and f"/{row.folder}.json" in call for call in made)

    def test_commands_are_understood(self, paper: Paper, tmp_path: Path) -> None:
        """Every `tocache` command of the loops names options that the command has."""
        import typer

        from tocache.cli.app import app

        group: Any = typer.main.get_command(app)
        known = {
            name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            for name, command in group.commands.items()
        }
        for _, commands in paper.steps(tmp_path):
            for line in commands:
                parts = shlex.split(line.strip(), comments=True)
                if parts[:1] == ["tocache"]:
                    assert {part for part in parts if part.startswith("-")} <= known[parts[1]], line

    def test_what_is_missing_is_said(self, paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        found = check_paper(paper, tmp_path / "data")
        assert {one.what for one in found} >= {
            need.what for need in paper.needs if "." in need.what and "/" not in need.what
        }
        assert all(one.why for one in found)


def test_a_file_is_checked_by_its_hash_and_its_arrays(tmp_path: Path) -> None:
    need = file_need("captions.txt", "look there", sha256=hashlib.sha256(b"a cat\n").hexdigest())
    assert need.why_missing(tmp_path) == f"{tmp_path / 'captions.txt'} is not there; look there"
    (tmp_path / "captions.txt").write_bytes(b"a dog\n")
    assert "another file than the published one" in str(need.why_missing(tmp_path))
    (tmp_path / "captions.txt").write_bytes(b"a cat\n")
    assert need.why_missing(tmp_path) is None

    arrays = file_need("ref.npz", "look there", arrays=("mu", "arr_0"))
    np.savez(tmp_path / "ref.npz", something=np.zeros(2))
    assert "holds something, none of mu, arr_0" in str(arrays.why_missing(tmp_path))
    np.savez(tmp_path / "ref.npz", mu=np.zeros(2))
    assert arrays.why_missing(tmp_path) is None


def test_a_model_in_a_folder_is_found(tmp_path: Path) -> None:
    need = folder_need(str(tmp_path / "model"), "make it")
    assert need.why_missing(tmp_path) == f"{tmp_path / 'model'} is not there; make it"
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_index.json").write_text("{}")
    assert need.why_missing(tmp_path) is None


def test_unknown_papers_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pixart'"):
        paper_named("pixat")
