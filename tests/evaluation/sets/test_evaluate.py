"""`evaluate` as a whole: against torch-fidelity, against closed forms, and what it says where it cannot measure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.metrics import frechet_of_moments
from tocache.evaluation.sets.evaluate import evaluate
from tocache.evaluation.sets.npz import write_npz
from tocache.evaluation.sets.report import read_report, write_report

HERE = Path(__file__).parent


@pytest.fixture
def sets(tmp_path: Path, tiny: ModuleType) -> tuple[Path, Path]:
    """The samples and the reference of tiny.py, as .npz files."""
    for name, options in (("samples", tiny.SAMPLES), ("reference", tiny.REFERENCE)):
        np.savez(tmp_path / f"{name}.npz", tiny.pictures(**options))
    return tmp_path / "samples.npz", tmp_path / "reference.npz"


def same_as_torch_fidelity(
    sets: tuple[Path, Path], expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch-fidelity cuts 600 pictures into 3 splits, ADM takes so many pictures for one
    monkeypatch.setattr("tocache.evaluation.sets.inception_score.SPLIT", 200)
    report = evaluate(sets[0], reference=sets[1], features="tiny:extract", manifold=500, intervals=False)
    names = {
        "fid": "frechet_inception_distance",
        "is": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }
    for ours, theirs in names.items():
        assert report.figures[ours].value == pytest.approx(expected[theirs], abs=1e-6), ours


def test_equals_what_torch_fidelity_measured(sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """tiny.py wrote the figures, with torch-fidelity 0.4.0 on the same pictures and features."""
    recorded = json.loads((HERE / "data" / "torch_fidelity.json").read_text(encoding="utf-8"))
    same_as_torch_fidelity(sets, recorded, monkeypatch)


def test_equals_torch_fidelity_where_it_is_installed(
    sets: tuple[Path, Path], tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        import torch_fidelity  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        pytest.skip(f"torch-fidelity cannot be imported: {error}")
    same_as_torch_fidelity(sets, tiny.measure(), monkeypatch)


def test_sfid_is_the_frechet_distance_of_the_spatial_features(sets: tuple[Path, Path], tiny: ModuleType) -> None:
    moments = []
    for options in (tiny.SAMPLES, tiny.REFERENCE):
        pictures = torch.from_numpy(tiny.pictures(**options)).permute(0, 3, 1, 2) / 255
        rows = tiny.extract(pictures)["spatial"].double()
        moments += [rows.mean(dim=0), torch.cov(rows.T)]
    figure = evaluate(sets[0], reference=sets[1], metrics=["sfid"], features="tiny:extract").figures["sfid"]
    assert figure.value == pytest.approx(frechet_of_moments(*moments), rel=1e-9)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high


def test_gaussians_of_known_distance(tmp_path: Path, tiny: ModuleType) -> None:
    """Against a Gaussian μ + a, Σ b² of the samples' own μ, Σ: |a|² + (1 − b)² tr Σ, in closed form."""
    pictures = tiny.pictures(400, 0)
    np.savez(tmp_path / "samples.npz", pictures)
    rows = tiny.extract(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)["pool"].double()
    mean, covariance = rows.mean(dim=0), torch.cov(rows.T)
    shift, scale = torch.linspace(0, 1, len(mean), dtype=torch.float64), 1.5
    arrays = {"mu": (mean + shift).numpy(), "sigma": (covariance * scale**2).numpy()}
    write_npz(tmp_path / "reference.npz", arrays)
    report = evaluate(
        tmp_path / "samples.npz", reference=tmp_path / "reference.npz", features="tiny:pool_only", metrics=["fid"]
    )
    expected = float(shift.square().sum() + (1 - scale) ** 2 * covariance.trace())
    assert report.figures["fid"].value == pytest.approx(expected, rel=1e-9)


def test_a_set_is_no_distance_from_itself(sets: tuple[Path, Path]) -> None:
    report = evaluate(sets[0], reference=sets[0], features="tiny:extract")
    assert report.figures["fid"].value == pytest.approx(0, abs=1e-7)
    assert report.figures["precision"].value == report.figures["recall"].value == 1
    assert report.left_out == {}


def test_folder_and_npz_give_the_same(sets: tuple[Path, Path], save: Callable[..., Path], tiny: ModuleType) -> None:
    folder = save(tiny.pictures(**tiny.SAMPLES), "pngs")
    one, other = (evaluate(path, reference=sets[1], features="tiny:extract").figures for path in (folder, sets[0]))
    assert one == other


def test_batches_of_any_size_give_the_same(sets: tuple[Path, Path]) -> None:
    one, other = (
        evaluate(sets[0], reference=sets[1], features="tiny:extract", batch=size).figures for size in (600, 7)
    )
    for name, figure in one.items():
        assert other[name].value == pytest.approx(figure.value, rel=1e-9), name


def test_what_is_saved_as_a_reference_is_one(sets: tuple[Path, Path], tmp_path: Path) -> None:
    saved = tmp_path / "saved.npz"
    evaluate(sets[1], metrics=["is"], features="tiny:extract", save_reference=saved)
    with np.load(saved) as loaded:
        assert sorted(loaded) == ["arr_0", "mu", "mu_s", "sigma", "sigma_s"]
    direct = evaluate(sets[0], reference=sets[1], features="tiny:extract").figures
    through = evaluate(sets[0], reference=saved, features="tiny:extract").figures
    for name, figure in direct.items():
        assert through[name].value == pytest.approx(figure.value, rel=1e-9), name


def test_statistics_of_a_reference_are_computed_once(
    sets: tuple[Path, Path], tmp_path: Path, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    extract = tiny.extract
    monkeypatch.setattr(tiny, "extract", lambda pictures: calls.append(len(pictures)) or extract(pictures))
    options = {"features": "tiny:extract", "cache": tmp_path / "cache", "intervals": False}
    first = evaluate(sets[0], reference=sets[1], **options)
    assert sum(calls) == 600 + 500
    calls.clear()
    again = evaluate(sets[0], reference=sets[1], **options)
    assert sum(calls) == 600
    assert again.figures == first.figures
    calls.clear()
    np.savez(sets[1], tiny.pictures(500, 2))  # other contents under the same name
    evaluate(sets[0], reference=sets[1], **options)
    assert sum(calls) == 600 + 500


def test_pairs_are_measured_by_name(save: Callable[..., Path], tiny: ModuleType) -> None:
    plain = np.full((4, 16, 16, 3), 100, np.uint8)
    off = plain.copy()
    off[2:] += 51  # 0.2 of 1
    report = evaluate(save(off, "off"), against=save(plain, "plain"), metrics=["psnr", "ssim"])
    psnr = report.figures["psnr"]
    assert psnr.value == pytest.approx((2 * 100 + 2 * 10 * math.log10(1 / 0.2**2)) / 4)
    assert psnr.note == "2 of 4 pairs are equal and count as 100 dB"
    assert 0 < report.figures["ssim"].value < 1


def test_the_judge_measures_pairs_and_sets_offline(save: Callable[..., Path]) -> None:
    from tocache.demo.world.render import render
    from tocache.demo.world.scene import draw_scene

    scenes = render([draw_scene(0, i, "picture") for i in range(12)], 128)
    drawn = (scenes * 255).round().byte().permute(0, 2, 3, 1).numpy()
    real, darker = save(drawn, "real"), save((drawn * 0.8).astype(np.uint8), "darker")
    report = evaluate(darker, reference=real, against=real, features="judge", metrics=["fid", "judge", "sfid", "is"])
    assert report.figures["judge"].value > 0
    assert report.figures["fid"].value > 0
    assert "without full rank" in report.figures["fid"].note
    assert report.left_out["sfid"] == "judge gives no spatial features"
    assert report.left_out["is"] == "judge gives no logits"
    assert evaluate(real, against=real, metrics=["judge"]).figures["judge"].value == 0


def test_what_cannot_be_measured_is_said(
    sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = evaluate(
        sets[0],
        against=sets[0],
        prompts=["a"] * 600,
        metrics=["fid", "clip", "lpips", "psnr"],
        clip=str(tmp_path / "none"),
        intervals=False,
    )
    assert list(report.figures) == ["psnr"]
    assert "Inception" in report.left_out["fid"]
    assert "--fetch" in report.left_out["clip"]
    assert "alexnet" in report.left_out["lpips"]


def test_if_nothing_can_be_measured_that_is_an_error(sets: tuple[Path, Path]) -> None:
    with pytest.raises(OptionError, match="nothing can be measured: psnr: pairs pictures with others"):
        evaluate(sets[0], metrics=["psnr"])
    with pytest.raises(UnknownNameError, match="did you mean 'psnr'"):
        evaluate(sets[0], metrics=["pnsr"])


def test_a_reference_of_another_space_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = {"mu": np.zeros(2048), "sigma": np.eye(2048)}
    write_npz(tmp_path / "adm.npz", arrays)
    report = evaluate(sets[0], reference=tmp_path / "adm.npz", features="tiny:extract", metrics=["fid", "is"])
    assert report.left_out == {"fid": "features of 12 and 2048 channels cannot be compared"}
    write_npz(tmp_path / "half.npz", {"mu": np.zeros(3), "sigma": np.eye(4)})
    with pytest.raises(OptionError, match="do not fit"):
        evaluate(sets[0], reference=tmp_path / "half.npz", features="tiny:extract")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(OptionError, match="holds something; allowed: arr_0, mu and sigma"):
        evaluate(sets[0], reference=tmp_path / "other.npz", features="tiny:extract")


def test_statistics_alone_give_no_precision(sets: tuple[Path, Path], tmp_path: Path) -> None:
    saved = tmp_path / "saved.npz"
    evaluate(sets[1], metrics=["is"], features="tiny:extract", save_reference=saved)
    with np.load(saved) as loaded:
        write_npz(tmp_path / "bare.npz", {name: loaded[name] for name in ("mu", "sigma")})
    report = evaluate(sets[0], reference=tmp_path / "bare.npz", features="tiny:extract")
    assert set(report.figures) == {"fid", "is"}
    assert "no pictures to make a manifold of" in report.left_out["precision"]
    assert "no statistics of spatial features" in report.left_out["sfid"]


def test_sets_of_other_names_cannot_be_paired(save: Callable[..., Path], tiny: ModuleType) -> None:
    more, fewer = save(tiny.pictures(5, 0), "more"), save(tiny.pictures(3, 0), "fewer")
    with pytest.raises(OptionError, match="has no 00003 and 1 more; pairs need the same names"):
        evaluate(more, against=fewer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", "allowed: inception, judge, or module:callable"),
        ("no_such_module:extract", "cannot be imported"),
        ("tiny:nothing", "has no callable 'nothing'"),
        ("tiny:waves", "waves"),
    ],
)
def test_extractors_that_are_none_are_refused(sets: tuple[Path, Path], name: str, message: str) -> None:
    with pytest.raises((OptionError, TypeError), match=message):
        evaluate(sets[0], features=name)


def test_a_report_reads_back(sets: tuple[Path, Path], tmp_path: Path) -> None:
    report = evaluate(sets[0], reference=sets[1], features="tiny:extract")
    write_report(report, tmp_path / "deep" / "report.json")
    again = read_report(tmp_path / "deep" / "report.json")
    assert again.figures == report.figures
    assert again.notes == report.notes
    assert again.about["samples"] == {"path": str(sets[0]), "pictures": 600, "size": [8, 8]}
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(OptionError, match="not a report"):
        read_report(tmp_path / "other.json")


def sampled(folder: Path, *options: str) -> Path:
    """Four pictures of a random model, drawn by `tocache sample`."""
    from typer.testing import CliRunner

    from tocache.cli.app import app

    arguments = ["sample", "--model", "demo:random-class", "--classes", "0-3", "--steps", "6", "-o", str(folder)]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return folder


def test_what_tocache_sample_drew_is_paired_by_index_prompt_and_seed(tmp_path: Path) -> None:
    plain = sampled(tmp_path / "plain", "--method", "none")
    cached = sampled(tmp_path / "cached", "--method", "fora", "--format", "tar")
    other = sampled(tmp_path / "other", "--method", "none", "--seed", "1")
    report = evaluate(cached, against=plain, metrics=["psnr", "clip"])
    assert 5 < report.figures["psnr"].value < 100
    assert report.left_out["clip"].startswith("no texts are known")
    assert evaluate(plain, against=plain, metrics=["psnr"]).figures["psnr"].value == 100
    with pytest.raises(OptionError, match=r"00000000 was drawn from seed \d+ here and from \d+ there"):
        evaluate(plain, against=other, metrics=["psnr"])
