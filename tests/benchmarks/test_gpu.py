"""The script for GPUs, on a CPU with tiny models of the same classes: does every part of it run?"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import tocache
from tocache.models.architectures import ARCHITECTURES
from tocache.presets import presets_of

Run = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def gpu(script: Any) -> Iterator[ModuleType]:
    with script("gpu") as module:
        yield module


@pytest.fixture
def run(gpu: ModuleType, tmp_path: Path) -> Run:
    """The rows that the script writes of one part."""

    def rows(part: str, *options: str) -> list[dict[str, str]]:
        given = ["--tiny", "--device", "cpu", "--folder", str(tmp_path), "--part", part, *options]
        assert gpu.main(given) == 0
        with (tmp_path / f"{part}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return rows


def test_rows_are_those_of_the_table_of_targets(gpu: ModuleType) -> None:
    for row in gpu.ROWS:
        assert row.architecture in ARCHITECTURES
        assert presets_of(row.family)[row.preset].family == row.family
    assert {row.name: row.least for row in gpu.ROWS}["dit-256-2"] == 0.8


@pytest.mark.slow
def test_kernels_are_held_against_float64(run: Run) -> None:
    rows = run("kernels")
    assert {row["operation"] for row in rows} >= {"attention", "column sums", "entropy", "scatter, gate, add"}
    for row in rows:
        assert row["error"] == ""
        assert float(row["worst_error"]) < 0.05  # of attention in bfloat16
        assert float(row["ms_p20"]) <= float(row["ms_p50"]) <= float(row["ms_p80"])


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("pixart-1024", "opensora-480p-2s", "dit-256-8")]


@pytest.mark.parametrize("row", ["flux-1024", *SLOWER])
def test_loops_in_turns(run: Run, row: str) -> None:
    (eager,) = run("latency", "--rows", row, "--ways", "eager")
    assert eager["error"] == ""
    assert int(eager["full_steps"]) + int(eager["partial_steps"] or 0) + int(eager["reuse_steps"] or 0) == 6
    ratio = float(eager["realised_speedup"]) / float(eager["flops_speedup"])
    assert float(eager["realised_over_flops"]) == pytest.approx(ratio, abs=1e-3)
    assert float(eager["flops_speedup"]) > 1
    assert eager["command"].startswith("python benchmarks/gpu.py")
    assert eager["torch"]


@pytest.mark.slow
def test_modulations_ahead_where_there_are_any(run: Run) -> None:
    failed, fine = run("latency", "--rows", "pixart-512,dit-256-2", "--ways", "eager", "--ahead")
    assert "modulate_ahead=True is not allowed" in failed["error"]
    assert (fine["error"], fine["ahead"]) == ("", "True")


@pytest.mark.slow
def test_compiled_against_compiled(run: Run) -> None:
    (compiled,) = run("latency", "--rows", "dit-256-2", "--ways", "compiled", "--multiple", "8")
    assert compiled["error"] == ""
    assert (int(compiled["graphs"]) > 1, compiled["multiple"]) == (True, "8")


@pytest.mark.slow
def test_memory_states_what_the_plan_states(run: Run) -> None:
    rows = run("memory", "--rows", "flux-1024")
    assert [row["storage"] for row in rows] == ["same", "int8", "fp8", "host"]
    for row in rows:
        assert row["error"] == ""
        assert row["planned"] == row["held"] != "0"
        assert row["planned_device"] == row["held_device"]
    assert int(rows[1]["planned"]) < int(rows[0]["planned"])
    assert int(rows[3]["planned_device"]) < int(rows[3]["planned"])


@pytest.mark.slow
def test_a_peer_that_cannot_run_has_a_row_that_says_so(run: Run) -> None:
    rows = run("peers", "--rows", "opensora-480p-2s", "--peers", "diffusers-pab")
    assert [row["contender"] for row in rows] == ["tocache", "diffusers-pab"]
    assert rows[0]["error"] == ""
    assert "Error" in rows[1]["error"]


@pytest.mark.slow
def test_the_frontier_has_pictures_to_compare(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in (tocache, torch.nn.Module):  # what is compiled is tested above
        monkeypatch.setattr(owner, "compile", lambda *_, **__: None)
    (row,) = run("frontier")
    assert row["error"] == ""
    assert float(row["psnr"]) > 0


def test_no_row_begins_after_the_time(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run("kernels", "--minutes", "0")
    assert re.search(r"0 rows failed; [1-9]\d* left out", capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_that_cannot_be_made_costs_its_own_rows_alone(
    gpu: ModuleType, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = gpu.Subject

    def fails(target: Any, *args: Any, **kwargs: Any) -> Any:
        if target.name == "dit-256-8":
            raise RuntimeError("out of memory\nand more")
        return make(target, *args, **kwargs)

    monkeypatch.setattr(gpu, "Subject", fails)
    failed, fine = run("latency", "--rows", "dit-256-8,dit-256-2", "--ways", "eager")
    assert (failed["row"], failed["error"]) == ("dit-256-8", "RuntimeError: out of memory")
    assert (fine["row"], fine["error"]) == ("dit-256-2", "")


def test_a_file_with_other_columns_is_left_alone(gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "memory.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other columns"):
        gpu.main(["--tiny", "--part", "memory", "--folder", str(tmp_path), "--device", "cpu"])


@pytest.mark.parametrize("option", ["--part", "--rows", "--ways"])
def test_unknown_names(gpu: ModuleType, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main([option, "abacus"])
    assert "unknown 'abacus'" in capsys.readouterr().err
