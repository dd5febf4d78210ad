"""tocache against recorded runs of the published code, and the program that compares them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tocache.models.originals import load_original

from . import compare as comparison
from .cases import Golden, GoldenError, load_golden
from .compare import ForwardResult, compare, main, method
from .loops import forwards, relative_error, sample
from .weights import build, state_dict

DATA = Path(__file__).with_name("data")
FILES = sorted(DATA.glob("*.npz"))
RUNS = [path for path in FILES if "_forward" not in path.stem]
PIXART = DATA / "pixart_dpms20_toca_t64.npz"


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=named)
def test_equals_the_published_code(path: Path) -> None:
    result = compare(path)
    assert result.passed, str(result)
    if not isinstance(result, ForwardResult):
        assert result.selections_equal == result.selections, str(result)


@pytest.mark.parametrize("path", RUNS, ids=named)
def test_sampler_alone_equals_the_original(path: Path) -> None:
    golden = load_golden(path)
    final = sample(golden, build(golden, golden.required().get("size")))
    assert relative_error(final, golden.tensor("final_uncached")) < comparison.TOLERANCE


@pytest.mark.parametrize("family", ["dit", "pixart"])
def test_saved_checkpoint_repeats_the_recorded_forwards(tmp_path: Path, family: str) -> None:
    golden = load_golden(DATA / f"{family}_forward.npz")

    def load(size: int | None) -> nn.Module:
        table = golden.tensor(f"pos_embed_S{size}")
        path = tmp_path / f"{size}.pt"
        torch.save({"state_dict": {**state_dict(golden.spec), "pos_embed": table}}, path)
        return load_original(path, num_heads=golden.config["num_heads"])

    for name, ours, recorded in forwards(golden, load):
        assert relative_error(ours, recorded) < comparison.TOLERANCE, name


def changed(golden: Golden, **meta: object) -> Golden:
    return replace(golden, meta={**golden.required(), **meta})


@pytest.fixture
def pixart() -> Golden:
    return load_golden(PIXART)


def test_another_interval_is_told_apart(pixart: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "load_golden", lambda _: changed(pixart, fresh_threshold=4))
    result = compare(PIXART)
    assert not result.passed
    assert "plan_equal=no" in str(result)


def test_another_ratio_is_told_apart(pixart: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "load_golden", lambda _: changed(pixart, fresh_ratio=0.29))
    result = compare(PIXART)
    assert not result.passed
    assert "plan_equal=no" in str(result)


def test_metadata_makes_the_method(pixart: Golden) -> None:
    dit = load_golden(DATA / "dit_ddim50_toca_t64.npz")
    assert str(method(pixart)) == "ToCa(interval=3, fresh_ratio=0.3, recipe='pixart', staleness=0.25)"
    assert "recipe='dit-ddpm250'" in str(method(changed(dit, ratio_scheduler="ToCa-ddpm250")))
    assert "ratio='constant'" in str(method(changed(dit, ratio_scheduler="constant")))
    assert str(method(changed(dit, fresh_ratio=0.0, fresh_threshold=4))) == "FORA(interval=4)"


def test_cycles_of_opensora_come_from_its_full_steps() -> None:
    toca = load_golden(DATA / "opensora_rflow30_toca_t96.npz")
    fora = load_golden(DATA / "opensora_rflow30_fora2_t96.npz")
    rescaled = "ToCa(interval=3, fresh_ratio=0.1, recipe='opensora', staleness=0.1875)"
    assert str(method(changed(toca, fresh_threshold=4))) == rescaled
    assert str(method(changed(toca, fresh_ratio=0.0))) == "ToCa(interval=3, fresh_ratio=0.0, recipe='opensora')"
    assert str(method(fora)) == "FORA(interval=2)"
    with pytest.raises(GoldenError, match="unknown full_steps"):
        method(changed(fora, fresh_ratio=0.1))  # ToCa's cross-attention has twice the others' cycle


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"ratio_scheduler": "ToCa-ddim51"}, "ratio_scheduler 'ToCa-ddim51'; known: ToCa, constant"),
        ({"cache_type": "random"}, "cache_type 'random'; known: attention"),
    ],
)
def test_unknown_settings_are_refused(pixart: Golden, meta: dict[str, object], message: str) -> None:
    with pytest.raises(GoldenError, match=message):
        method(changed(pixart, **meta))


def test_unknown_sampler_is_refused(pixart: Golden) -> None:
    golden = changed(pixart, sampler="sa-solver")
    with pytest.raises(GoldenError, match="unknown sampler 'sa-solver'"):
        sample(golden, build(golden, 16))


def test_near_ties_widen_the_tolerance_beyond_a_hundred(pixart: Golden) -> None:
    assert pixart.fragile() == pixart.required()["n_gap_lt_1e6"]


def test_program_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DATA / "flux_forward.npz")]) == 0
    name, error = capsys.readouterr().out.split()
    assert name == "flux_forward"
    assert float(error.removeprefix("forward_rel_err=")) < 1e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not an archive", "not a readable .npz file"),
        (PIXART.read_bytes(), "no JSON file in its folder describes it (there: none)"),
    ],
    ids=["missing", "damaged", "undescribed"],
)
def test_program_explains_what_it_cannot_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "some.npz"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    assert message in capsys.readouterr().err


def test_program_wants_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
