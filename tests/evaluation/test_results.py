"""Rows, curves, files and the plot of a benchmark that was not run."""

from __future__ import annotations

import csv
import json

import pytest

from tocache.cli.show_bench import show_results
from tocache.errors import OptionError
from tocache.evaluation.contenders import OURS, PEER, REFERENCE, STEPS
from tocache.evaluation.pareto import draw_pareto
from tocache.evaluation.results import (
    BY_FLOPS,
    BY_LATENCY,
    JUDGE_LOSS,
    SSIM_LOSS,
    Results,
    Row,
    read_results,
    write_results,
)


def figure(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean}


def row(curve: str, kind: str, ratio: float, loss: float) -> Row:
    return Row(
        curve,
        f"{ratio:g} times",
        kind,
        pictures=4,
        flops=1e9 / ratio,
        flops_ratio=ratio,
        loop_seconds={"p20": 0.9 / ratio, "p50": 1 / ratio, "p80": 1.2 / ratio},
        total_seconds={"p20": 1.9, "p50": 2.0, "p80": 2.1},
        loop_speedup=0.8 * ratio,
        total_speedup=0.6 * ratio,
        realised_over_flops=0.8,
        cache_bytes=2**21 if kind == OURS else None,
        paired={"psnr": figure(30 - loss), "ssim": figure(1 - loss), JUDGE_LOSS: figure(2 * loss)},
        shown={"claims": figure(0.5)},
        frechet=1.5,
    )


@pytest.fixture
def results() -> Results:
    about = {
        "model": "demo:text",
        "transformer": "PixArtTransformer2DModel",
        "scheduler": "DPMSolverMultistepScheduler",
        "dtype": "float32",
        "pictures": 4,
        "batch": 2,
        "points": [2.0, 5.0],
        "hardware": "a machine",
        "versions": {"torch": "2", "diffusers": "0"},
        "left_out": {"lpips": "LPIPS has no weights here"},
    }
    rows = (
        Row("uncached", "every step in full", REFERENCE, pictures=4, flops_ratio=1.0, loop_speedup=1.0),
        row("fora", OURS, 1.9, 0.1),
        row("fora", OURS, 2.8, 0.3),
        row("fewer-steps", STEPS, 4.0, 0.4),
        row("fewer-steps", STEPS, 6.0, 0.9),
        row("dpm-solver", STEPS, 4.0, 0.2),
        row("first-block", PEER, 3.0, 0.35),
        Row("cache-dit", "", PEER, failed="ModuleNotFoundError: No module named 'cache_dit'"),
    )
    return Results(about, rows, {"fora: 1.9 times": {"psnr": [30.0]}})


def test_curves_begin_at_the_uncached_picture_where_it_is_their_mildest_setting(results):
    assert results.curve("fora", SSIM_LOSS, BY_FLOPS) == [
        (1.0, 0.0),
        (1.9, pytest.approx(0.1)),
        (2.8, pytest.approx(0.3)),
    ]
    assert results.curve("fewer-steps", JUDGE_LOSS, BY_LATENCY)[0] == (1.0, 0.0)
    assert results.curve("dpm-solver", JUDGE_LOSS, BY_FLOPS) == [(4.0, pytest.approx(0.4))]
    assert results.curve("cache-dit", SSIM_LOSS, BY_FLOPS) == []
    assert results.curves() == ["fora", "fewer-steps", "dpm-solver", "first-block"]


def test_points_beyond_a_curve_say_where_it_ends(results):
    at = results.at_points(SSIM_LOSS, BY_FLOPS)
    assert 0.1 < at["fora"][0].loss < 0.3
    assert (at["fora"][1].loss, at["fora"][1].reach) == (None, 2.8)
    assert 0.4 < at["fewer-steps"][1].loss < 0.9


def test_files_hold_all_rows(results, tmp_path):
    written = write_results(results, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["results.json", "results.csv"]
    content = json.loads(written[0].read_text())
    assert [one["curve"] for one in content["rows"]] == [one.curve for one in results.rows]
    assert content["by_picture"] == results.by_picture
    assert content["at_points"]["one_minus_ssim by flops_ratio"]["fora"][1]["reach"] == 2.8
    assert content["interrupted"] is False
    with written[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["paired.ssim.mean"] == "0.9"
    assert rows[-1]["failed"].startswith("ModuleNotFoundError")
    assert rows[-1]["paired.ssim.mean"] == ""


def test_what_was_written_is_read_again(results, tmp_path):
    write_results(results, tmp_path)
    again = read_results(tmp_path)
    assert (again.rows, again.by_picture, again.interrupted) == (results.rows, results.by_picture, results.interrupted)
    assert again.at_points(SSIM_LOSS, BY_FLOPS) == results.at_points(SSIM_LOSS, BY_FLOPS)
    (tmp_path / "results.json").write_text('{"rows": []}')
    with pytest.raises(OptionError, match=r"results\.json: holds no results that can be read"):
        read_results(tmp_path)


def test_a_folder_that_cannot_be_is_refused(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        write_results(results, tmp_path / "file")


def test_the_plot_is_drawn(results, tmp_path):
    assert draw_pareto(results, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 20_000


def test_without_a_measured_loss_there_is_no_plot(results, tmp_path):
    nothing = Results(results.about, results.rows[:1] + results.rows[-1:], {})
    assert not draw_pareto(nothing, tmp_path / "pareto.png")
    assert list(tmp_path.iterdir()) == []
    show_results(nothing)


@pytest.mark.parametrize("width", ["80", "200"])
def test_what_is_printed_fits_and_says_it_all(results, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", width)
    show_results(results)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(width)
    text = "\n".join(lines)
    for part in ("1.90×", "2.0 MiB", "ends at 2.80×", "No module named 'cache_dit'", "not measured: lpips", "50%"):
        assert part in text
    assert "…" not in text
