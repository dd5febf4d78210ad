"""Pictures with and without the cache, from the bundled demos."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tocache
from tocache.api import Trace
from tocache.demo import load_demo, random_text_pipeline, random_video_pipeline
from tocache.demo.random_pipelines import random_class_pipeline
from tocache.doctor import device_named, diagnose, synchronize
from tocache.engine.record import Record
from tocache.errors import (
    OptionError,
    PlanMismatchError,
    RunError,
    TocacheError,
    TocacheWarning,
    UnknownNameError,
)
from tocache.generation import Generated, Progress, caption, draw_comparison, freshness, generate, load_pipeline, psnr
from tocache.methods import FORA, Planned, ToCa, Uncached
from tocache.models.architectures import call_arguments, class_number, meta_transformer, pretrained_pipeline
from tocache.plan import ALL
from tocache.planning import plan_model, write_plan

CLASS, TEXT, FLUX = "demo:random-class", "demo:random-text", "demo:random-flux"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generated, list[Progress]]:
    """One comparison, which several tests look at."""
    told: list[Progress] = []
    output = tmp_path_factory.mktemp("compared") / "out.png"
    result = generate(
        "otter", output=output, model=CLASS, method=ToCa(3, 0.3), steps=12, compare=True, on_step=told.append
    )
    return result, told


def test_compare_writes_both_pictures_and_the_map(compared: tuple[Generated, list[Progress]]) -> None:
    result, _ = compared
    assert result.uncached is not None
    assert result.psnr is not None
    assert 10 < result.psnr < float("inf")
    assert result.uncached_seconds is not None
    assert result.speedup == result.uncached_seconds / result.seconds
    assert result.report.steps == 12
    assert result.report.overruled == 0
    with Image.open(result.output) as picture:
        assert picture.width > 2 * picture.height


def test_compare_tells_every_step_of_every_phase(compared: tuple[Generated, list[Progress]]) -> None:
    result, told = compared
    assert [p.phase for p in told] == ["warm-up"] * 4 + ["without cache"] * 12 + ["with cache"] * 12
    cached = told[-12:]
    assert [p.step for p in cached] == list(range(1, 13))
    assert {p.steps for p in cached} == {12}
    kinds = [p.kind for p in cached]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == result.report.steps_by_kind
    assert kinds[0] == "full"
    assert "partial" in kinds


def test_the_map_adds_up_to_the_tokens_computed(compared: tuple[Generated, list[Progress]]) -> None:
    result, _ = compared
    assert result.freshness is not None
    assert result.freshness.shape == (16, 16)
    assert 0 < result.freshness.min() < result.freshness.max() <= 1
    plan = plan_model(CLASS, ToCa(3, 0.3), steps=12, dtype="fp32")
    mlps = [i for i, site in enumerate(plan.sites) if site.rows]
    amounts = plan.amounts[:, 0, mlps]
    assert result.freshness.mean() == pytest.approx(np.where(amounts == ALL, 256, amounts).mean() / 256)


def test_caption_names_latency_flops_and_psnr(compared: tuple[Generated, list[Progress]]) -> None:
    first, second = caption(compared[0]).splitlines()
    assert first == "ToCa(interval=3, fresh_ratio=0.3, recipe='dit-ddim50') on DiTTransformer2DModel 12 x 64, 12 steps"
    for part in ("× as fast", "GFLOPs", "× fewer", "PSNR", "dB"):
        assert part in second


def test_both_pictures_are_those_that_the_pipeline_draws(compared: tuple[Generated, list[Progress]]) -> None:
    result, _ = compared
    pipe = load_pipeline(CLASS, device="cpu")
    draw = {"class_labels": [360], "num_inference_steps": 12}
    uncached = pipe(**draw, generator=torch.Generator().manual_seed(0)).images[0]
    with tocache.enabled(pipe, ToCa(3, 0.3)):
        cached = pipe(**draw, generator=torch.Generator().manual_seed(0)).images[0]
    assert result.uncached is not None
    assert psnr(uncached, result.uncached) == float("inf")
    assert psnr(cached, result.image) == float("inf")


def test_where_recording_costs_time_it_has_a_run_of_its_own(
    compared: tuple[Generated, list[Progress]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocache.generation.draw.recording_costs", lambda device: True)
    result = generate("otter", output=tmp_path / "out.png", model=CLASS, method=ToCa(3, 0.3), steps=12, compare=True)
    assert result.freshness is not None
    assert compared[0].freshness is not None
    assert (result.freshness == compared[0].freshness).all()
    assert result.psnr == compared[0].psnr


def test_without_a_method_nothing_changes(tmp_path: Path) -> None:
    result = generate(
        207, output=tmp_path / "out.png", model=CLASS, method=Uncached(), steps=9, compare=True, seed=3, device="cpu"
    )
    assert result.psnr == float("inf")
    assert "identical pictures" in caption(result)
    assert result.freshness is not None
    assert (result.freshness == 1).all()


def test_text_to_image_with_the_default_model(tmp_path: Path) -> None:
    result = generate("a red circle", output=tmp_path / "out.png", method=FORA(2), steps=10, guidance=2.0)
    assert (result.uncached, result.psnr, result.freshness, result.speedup) == (None,) * 4
    assert result.report.family == "pixart"
    assert result.report.rows == 2
    assert result.report.steps_by_kind == {"full": 5, "reuse": 5}
    with Image.open(tmp_path / "out.png") as picture:
        assert psnr(picture, result.image) == float("inf")


def test_a_saved_plan_runs_as_it_was_planned(tmp_path: Path) -> None:
    plan = plan_model(FLUX, ToCa(4, 0.2), steps=9)
    write_plan(plan, tmp_path / "plan.json")
    result = generate("sea", output=tmp_path / "out.png", model=FLUX, method=tmp_path / "plan.json")
    assert result.report.steps == 9
    assert result.report.flops_computed == result.report.flops_planned
    assert result.report.overruled == 0


def test_a_plan_of_other_steps_is_refused_unless_resampled(tmp_path: Path) -> None:
    plan = plan_model(CLASS, FORA(3), steps=12, dtype="fp32")
    with pytest.raises(PlanMismatchError, match="steps: plan 12, here 9"):
        generate(1, output=tmp_path / "out.png", model=CLASS, method=plan, steps=9)
    assert not (tmp_path / "out.png").exists()
    stretched = Planned(plan, resample=True)
    assert generate(1, output=tmp_path / "out.png", model=CLASS, method=stretched, steps=9).report.steps == 9


def test_the_map_of_joint_streams_leaves_text_out() -> None:
    pipe = load_pipeline(FLUX)
    with tocache.enabled(pipe, ToCa(3, 0.2)), tocache.trace(pipe) as recorded:
        pipe("sea", num_inference_steps=9, max_sequence_length=16, output_type="latent")
    share = freshness(recorded)
    assert share is not None
    assert share.shape == (16, 16)
    assert 0 < share.min() <= share.max() <= 1


def test_no_map_without_a_run() -> None:
    with pytest.raises(RunError, match="no run"):
        freshness(Trace(record=Record()))


def test_psnr_is_that_of_eight_bit_pictures() -> None:
    black, grey = Image.new("RGB", (4, 4), (0, 0, 0)), Image.new("RGB", (4, 4), (1, 1, 1))
    assert psnr(black, grey) == pytest.approx(10 * np.log10(255**2))
    assert psnr(black, black) == float("inf")


def test_a_folder_in_diffusers_format(tmp_path: Path) -> None:
    load_demo(CLASS).save_pretrained(tmp_path / "model")
    pipe = load_pipeline(tmp_path / "model", dtype="bf16", device="cpu")
    assert pipe.transformer.dtype == torch.bfloat16
    assert plan_model(tmp_path / "model", steps=10).steps == 10


@pytest.mark.parametrize(("name", "number"), [("otter", 360), ("7", 7), (999, 999), ("lesser panda", 387)])
def test_classes_by_name_and_number(name: str | int, number: int) -> None:
    pipe = load_demo(CLASS)
    assert class_number(pipe, name) == number
    assert call_arguments(pipe, name, steps=None, guidance=3.0) == {"class_labels": [number], "guidance_scale": 3.0}


@pytest.mark.parametrize("missing", [(), ("bs4",), ("bs4", "ftfy")], ids=str)
def test_who_warns_of_prompts_that_cannot_be_cleaned(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]) -> None:
    """We do for diffusers' pipelines; ours does by itself; the demos' captions need no cleaning."""
    ask = partial(call_arguments, prompt="sea", steps=None, guidance=None)
    ours, demo, diffusers = random_video_pipeline(depth=1), load_demo(TEXT), random_text_pipeline(depth=1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else name)
    assert ask(ours) == {"prompt": "sea"}
    assert ask(demo) == {"prompt": "sea", "clean_caption": False}
    if not missing:
        assert ask(diffusers) == {"prompt": "sea"}
        return
    with pytest.warns(TocacheWarning, match="beautifulsoup4 not installed: prompts are not cleaned as in training"):
        assert ask(diffusers) == {"prompt": "sea", "clean_caption": False}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "missing/out.png"}, OptionError, "there is no folder 'missing'"),
        ({"output": "out.txt"}, OptionError, "allowed: a picture's name"),
        ({"model": "nothing"}, UnknownNameError, "demo:random-text"),
        ({"model": "demo:nothing"}, UnknownNameError, "known: demo:class, demo:random-class"),
        ({"model": "dit-xl-2-256"}, OptionError, "architecture without weights.*facebook/DiT-XL-2-256"),
        ({"model": "weights.pth"}, OptionError, "holds the transformer alone.*load_original"),
        ({"prompt": "ottar"}, UnknownNameError, "did you mean 'otter'.*0 … 999, golden retriever"),
        ({"prompt": "1000"}, UnknownNameError, "unknown class '1000'"),
        ({"method": "paper"}, UnknownNameError, "known: balanced, fast, paper-ddim50"),
        ({"method": "paper-r70"}, OptionError, "is for the family 'pixart'"),
        ({"steps": 0}, OptionError, "steps=0 is not allowed"),
        ({"seed": -1}, OptionError, "seed=-1 is not allowed"),
        ({"guidance": -1.0}, OptionError, "guidance=-1.0 is not allowed"),
        ({"dtype": "int8"}, UnknownNameError, "known: bf16, fp16, fp32"),
        ({"device": "abacus"}, OptionError, "device='abacus' is not available here; available:.*cpu"),
        ({"device": "cpu:x"}, OptionError, "device='cpu:x' is not available here"),
    ],
)
def test_impossible_requests(
    options: dict[str, Any],
    error: type[TocacheError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        generate(**{"prompt": "otter", "output": "out.png", "model": CLASS} | options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network\nsecond line")

    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", refuse)
    with pytest.raises(OptionError, match=r"someone/model: cannot be loaded: no network$"):
        pretrained_pipeline("someone/model", torch.float32)


def test_compare_without_matplotlib_fails_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("tocache.generation.draw.load_pipeline", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(OptionError, match=r"compare needs matplotlib: pip install 'tocache\[plot\]'"):
        generate("otter", output=tmp_path / "out.png", model=CLASS, compare=True)


def test_pictures_that_are_not_square_and_have_no_map(
    compared: tuple[Generated, list[Progress]], tmp_path: Path
) -> None:
    from dataclasses import replace

    wide = replace(compared[0], frames=(compared[0].image.resize((512, 256)),), freshness=None)
    draw_comparison(wide, tmp_path / "wide.png")
    with Image.open(tmp_path / "wide.png") as picture:
        assert picture.width > 2 * picture.height


def test_doctor_sees_this_machine() -> None:
    found = diagnose()
    assert found.versions["torch"] == torch.__version__
    assert "cpu" in found.devices
    assert found.abilities["models: dit"] == "DiTTransformer2DModel"
    assert device_named("cpu") == torch.device("cpu")
    synchronize(torch.device("cpu"))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OptionError, match="no file can be written there"):
        generate(prompt="otter", output=tmp_path / "out.png", model="demo:nothing, which is not looked at")


@pytest.mark.parametrize(("file", "key", "value"), [
    ("model_index.json", "_class_name", "NopePipeline"),
    ("transformer/config.json", "num_layers", "x"),
])  # fmt: skip
def test_a_folder_whose_configuration_is_damaged(tmp_path: Path, file: str, key: str, value: str) -> None:
    random_class_pipeline(depth=2, hidden=16, heads=2, sample_size=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(config | {key: value}))
    with pytest.raises(OptionError, match="cannot be loaded"):
        pretrained_pipeline(tmp_path, torch.float32)
    if key == "num_layers":
        with pytest.raises(OptionError, match="no DiTTransformer2DModel can be built from this configuration"):
            meta_transformer(tmp_path)
