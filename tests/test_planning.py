"""Plans from names alone: the published FLOPs, the defaults, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tocache.errors import (
    OptionError,
    PlanFileError,
    PlanMismatchError,
    TocacheError,
    UnknownNameError,
    UnsupportedModelError,
)
from tocache.methods import FORA, Planned, ToCa, Uncached
from tocache.models.architectures import ARCHITECTURES, build_from_config, build_meta, is_here, meta_transformer
from tocache.plan import flops_planned, flops_uncached, load_plan
from tocache.planning import method_from, plan_model, replan, summarize, usual_steps, write_plan

DIT, PIXART, FLUX = "dit-xl-2-256", "pixart-xl-2-256", "flux-dev-1024"


@pytest.mark.parametrize(
    ("model", "method", "steps", "uncached", "planned"),
    [
        (DIT, "paper-ddim50", None, 23.74, 10.23),
        (DIT, ToCa(), None, 23.74, 10.23),
        (DIT, FORA(3), None, 23.74, 8.56),
        (DIT, "paper-ddpm250", None, 118.7, 43.42),
        (DIT, "paper-ddpm250", 250, 118.7, 43.42),
        (DIT, Uncached(), 50, 23.74, 23.74),
        (PIXART, "paper-r60", None, 11.15, 6.24),
        (PIXART, "paper-r70", None, 11.15, 5.68),
        (PIXART, "paper-r80", None, 11.15, 4.95),
        (PIXART, "paper-r90", None, 11.15, 4.15),
        (FLUX, "paper-n4", None, 3718, 1203),
        (FLUX, "paper-n5", None, 3718, 1063),
        (FLUX, "paper-n6", None, 3718, 923),
    ],
)
def test_flops_of_the_published_operating_points(
    model: str, method: Any, steps: int | None, uncached: float, planned: float
) -> None:
    plan = plan_model(model, method, steps=steps)
    assert flops_uncached(plan) / 1e12 == pytest.approx(uncached, rel=1e-3)
    assert flops_planned(plan) / 1e12 == pytest.approx(planned, rel=1e-3)


def test_defaults_are_one_picture_guided_in_two_byte_features() -> None:
    dit, flux = plan_model(DIT), plan_model(FLUX)
    assert (dit.steps, dit.anatomies[0].shape.rows, dit.anatomies[0].shape.itemsize) == (50, 2, 2)
    assert (flux.steps, flux.anatomies[0].shape.rows) == (50, 1)
    assert plan_model(DIT, guidance=1.0).anatomies[0].shape.rows == 1
    assert plan_model(PIXART, pictures=3, dtype="fp32").anatomies[0].shape.rows == 6
    assert plan_model(PIXART, dtype="float32").anatomies[0].shape.itemsize == 4
    assert plan_model(PIXART).steps == 20


def test_summary_counts_steps_and_bytes() -> None:
    one, two = summarize(plan_model(DIT, ToCa())), summarize(plan_model(DIT, ToCa(), pictures=2))
    assert one.steps_by_kind == {"full": 18, "partial": 24, "reuse": 8}
    assert one.ratio == pytest.approx(2.32, abs=0.01)
    assert two.cache_bytes == 2 * one.cache_bytes
    assert summarize(plan_model(FLUX, ToCa())).notes


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_known_architectures_are_built_without_weights(name: str) -> None:
    if not is_here(ARCHITECTURES[name].transformer):
        with pytest.raises(UnsupportedModelError, match=f"has no {ARCHITECTURES[name].transformer}; a newer one has"):
            build_meta(name)
        return
    transformer = build_meta(name)
    assert type(transformer).__name__ == ARCHITECTURES[name].transformer
    assert {parameter.device.type for parameter in transformer.parameters()} == {"meta"}


def test_a_folder_in_diffusers_format_is_enough(tmp_path: Path) -> None:
    build_meta(PIXART).save_config(tmp_path / "transformer")
    from_folder, known = plan_model(tmp_path), plan_model(PIXART)
    assert (from_folder.fresh == known.fresh).all()
    assert (plan_model(str(tmp_path / "transformer")).fresh == known.fresh).all()


def test_demo_plans_have_the_size_that_the_demo_draws() -> None:
    plan = plan_model("demo:random-flux", steps=10)
    assert dict(plan.anatomies[0].shape.tokens) == {"image": 256, "text": 512, "joint": 768}
    assert plan.anatomies[0].shape.grid == (16, 16)


def test_json_round_trip(tmp_path: Path) -> None:
    made = plan_model(PIXART, ToCa(3, 0.2), pictures=2)
    write_plan(made, tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert {"flops_uncached", "flops_planned", "cache_bytes", "steps", "passes", "sites", "fresh", "policy"} <= set(
        data
    )
    assert data["version"] == 1
    loaded = load_plan(tmp_path / "plan.json")
    assert (loaded.fresh == made.fresh).all()
    assert summarize(loaded) == summarize(made)
    again = plan_model(PIXART, method_from(plan=tmp_path / "plan.json"), pictures=2)
    assert summarize(again) == summarize(made)


def test_a_plan_is_resampled_on_request_only(tmp_path: Path) -> None:
    plan = plan_model(DIT)
    write_plan(plan, tmp_path / "plan.json")
    assert replan(plan) is plan
    with pytest.raises(PlanMismatchError, match="50 steps, not 20"):
        replan(plan, steps=20)
    assert replan(plan, steps=20, resample=True).steps == 20
    stretched = method_from(plan=tmp_path / "plan.json", resample=True)
    assert plan_model(DIT, stretched, steps=20).steps == 20
    with pytest.raises(PlanMismatchError, match="steps: plan 50, here 20"):
        plan_model(DIT, method_from(plan=tmp_path / "plan.json"), steps=20)
    with pytest.raises(PlanMismatchError, match="model: plan DiT"):
        plan_model(PIXART, method_from(plan=tmp_path / "plan.json"))


def test_methods_by_name() -> None:
    assert method_from() is None
    assert method_from("none") == Uncached()
    assert method_from("fora", interval=4) == FORA(4)
    assert method_from("toca", interval=4, fresh_ratio=0.2) == ToCa(4, 0.2)
    assert method_from(fresh_ratio=0.2) == ToCa(fresh_ratio=0.2)
    assert method_from(preset="paper-r70") == "paper-r70"


def test_presets_and_plans_know_their_steps() -> None:
    assert usual_steps("paper-ddpm250") == 250
    assert usual_steps(ToCa()) is None
    plan = plan_model(PIXART, steps=12)
    assert usual_steps(plan) == usual_steps(Planned(plan)) == 12


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "fora", "fresh_ratio": 0.1}, OptionError, "method 'fora' has no option 'fresh_ratio'.*: interval$"),
        ({"name": "none", "interval": 2}, OptionError, "'none' has no option 'interval'; its options: none"),
        ({"name": "toka"}, UnknownNameError, "'toca'.*known: .*fora, freqca, hicache"),
        ({"name": "toca", "interval": 0}, OptionError, "interval=0 is not allowed; allowed: an integer >= 1"),
        ({"fresh_ratio": 1.5}, OptionError, "fresh_ratio=1.5 is not allowed; allowed: 0 … 1"),
        ({"preset": "paper"}, UnknownNameError, "known: balanced, fast, paper-ddim50"),
        ({"name": "toca", "preset": "paper-r70"}, OptionError, "method and preset cannot be combined"),
        ({"preset": "paper-r70", "interval": 2}, OptionError, "interval cannot be combined with preset"),
        ({"resample": True}, OptionError, "give a plan"),
        ({"plan": "missing.json"}, PlanFileError, "missing.json: No such file"),
    ],
)
def test_impossible_methods(options: dict[str, Any], error: type[TocacheError], message: str) -> None:
    with pytest.raises(error, match=message):
        method_from(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "dit-xl-2-255"}, UnknownNameError, "did you mean 'dit-xl-2-256'.*flux-dev-1024.*demo:random-text"),
        ({"model": "demo:nothing"}, UnknownNameError, "known: demo:class, demo:random-class"),
        ({"method": "paper-r70"}, OptionError, "is for the family 'pixart'.*paper-ddim50"),
        ({"steps": 0}, OptionError, "steps=0 is not allowed; allowed: an integer >= 1"),
        ({"pictures": 0}, OptionError, "pictures=0 is not allowed"),
        ({"guidance": -1.0}, OptionError, "guidance=-1.0 is not allowed; allowed: a number >= 0"),
        ({"guidance": float("nan")}, OptionError, "guidance=nan is not allowed"),
        ({"dtype": "int8"}, UnknownNameError, "known: bf16, fp16, fp32"),
    ],
)
def test_impossible_plans(options: dict[str, Any], error: type[TocacheError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_model(**{"model": DIT} | options)


def test_folders_and_configurations_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no transformer/config.json in this folder"):
        meta_transformer(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(OptionError, match="expected an object"):
        meta_transformer(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(OptionError, match="not a configuration"):
        meta_transformer(tmp_path)
    with pytest.raises(OptionError, match="_class_name"):
        build_from_config({})
    with pytest.raises(UnsupportedModelError, match=r"no model family serves ErnieImage.*DiTTransformer2DModel"):
        build_from_config({"_class_name": "ErnieImageTransformer2DModel"})


def test_a_model_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(OptionError, match=r"someone/model: no such folder here.*hub: no network$"):
        plan_model("someone/model")


def test_unwritable_plan(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written: No such file"):
        write_plan(plan_model(PIXART), tmp_path / "missing" / "plan.json")
