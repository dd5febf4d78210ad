"""Every error that a user can cause: it says what is wrong and what is allowed, and nothing is changed."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch

import tocache
from tocache.demo.random_pipelines import random_class_pipeline
from tocache.models.registry import FAMILIES
from tocache.plan import ALL, Pass

SIZE = {"depth": 2, "hidden": 16, "heads": 2, "sample_size": 8}


def attached(pipe) -> list[str]:
    things = {"pipeline": pipe, "scheduler": pipe.scheduler, **dict(pipe.transformer.named_modules())}
    return [name for name, thing in things.items() if "_tocache" in vars(thing)]


@pytest.fixture
def pipe():
    """A DiT pipeline on which nothing is enabled."""
    made = random_class_pipeline(**SIZE)
    made.set_progress_bar_config(disable=True)
    return made


def draw(pipe, steps: int = 9) -> torch.Tensor:
    drawn = pipe([1], generator=torch.Generator().manual_seed(0), num_inference_steps=steps, output_type="pt").images
    return torch.as_tensor(drawn)


def meta(name: str, **config):
    with torch.device("meta"):
        return getattr(diffusers, name)(**config)


def plan_for(family: str, steps: int = 9, tokens: int = 16, depth: int = 2) -> tocache.Plan:
    """A plan of another model."""
    if family == "flux":
        model = meta("FluxTransformer2DModel", num_layers=1, num_single_layers=2, attention_head_dim=8)
        shape = Pass(1, {"image": tokens, "text": 4, "joint": tokens + 4})
    else:
        config = {"num_layers": depth, "num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 8}
        if family == "pixart":
            config |= {"cross_attention_dim": 16, "caption_channels": 12}
        model = meta({"dit": "DiTTransformer2DModel", "pixart": "PixArtTransformer2DModel"}[family], **config)
        shape = Pass(2, {"image": tokens}, (4, tokens // 4), context=5)
    return tocache.FORA(3).plan([FAMILIES[family].anatomy(model, shape)], steps)


def bad_methods(tmp_path):
    """Name → (what enable is given, the error, what its message says)."""
    damaged, newer = tmp_path / "damaged.json", tmp_path / "newer.json"
    damaged.write_text('{"format": "tocache-plan", "version": 1}', encoding="utf-8")
    newer.write_text('{"format": "tocache-plan", "version": 9}', encoding="utf-8")
    region = plan_for("flux").anatomies[0].with_region("single_transformer_blocks", 0, 1)
    fresh = np.full((9, 1, len(region.sites)), ALL, dtype=np.int32)
    return {
        "unknown preset": ("papr-ddim50", tocache.UnknownNameError, "unknown preset 'papr-ddim50'.*'paper-ddim50'"),
        "preset of another family": ("paper-n4", tocache.OptionError, "'paper-n4' is for the family 'flux'.*paper-d"),
        "no method at all": (3, tocache.OptionError, "method=3 is not allowed; allowed: a method, a Plan, a preset"),
        "a method's class": (tocache.ToCa, tocache.OptionError, "is not allowed"),
        "missing file": (str(tmp_path / "gone.json"), tocache.PlanFileError, r"gone\.json: No such file"),
        "damaged file": (damaged, tocache.PlanFileError, r"damaged\.json: the plan is damaged"),
        "newer file": (newer, tocache.PlanFileError, r"newer\.json: plan version 9 cannot be read"),
        "plan of another family": (plan_for("pixart"), tocache.PlanMismatchError, r"model: plan Pixart.*here DiT"),
        "plan of FLUX": (plan_for("flux"), tocache.PlanMismatchError, r"model: plan Flux.*here DiT"),
        "plan with a region of FLUX": (
            tocache.Plan((region,), fresh, tocache.Policy(), "x"),
            tocache.PlanMismatchError,
            r"model: plan Flux.*here DiT",
        ),
        "plan of another depth": (plan_for("dit", depth=5), tocache.PlanMismatchError, r"5 x 16.*here.*2 x 16"),
        "score that the model lacks": (tocache.ToCa(3, 0.5, scores={"entropy": 1.0}), tocache.PlanError, "entropy"),
    }


NAMES = [
    "unknown preset",
    "preset of another family",
    "no method at all",
    "a method's class",
    "missing file",
    "damaged file",
    "newer file",
    "plan of another family",
    "plan of FLUX",
    "plan with a region of FLUX",
    "plan of another depth",
    "score that the model lacks",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_that_cannot_be_changes_nothing(pipe, tmp_path, name):
    method, error, message = bad_methods(tmp_path)[name]
    with pytest.raises(error, match=f"(?i){message}"):
        tocache.enable(pipe, method)
    assert attached(pipe) == []
    tocache.enable(pipe, tocache.FORA(2))
    cached = draw(pipe)
    with pytest.raises(error):
        tocache.enable(pipe, method)
    assert tocache.report(pipe).method == "FORA(interval=2)"
    with pytest.raises(error), tocache.enabled(pipe, method):
        pass
    assert torch.equal(draw(pipe), cached)


def test_a_plan_of_dit_on_flux():
    model = meta("FluxTransformer2DModel", num_layers=1, num_single_layers=2, attention_head_dim=8)
    with pytest.raises(tocache.PlanMismatchError, match=r"model: plan DiT.*here Flux"):
        tocache.enable(model, plan_for("dit"))
    assert "_tocache" not in vars(model)


def test_a_plan_of_another_token_count_says_both_at_the_first_forward(pipe):
    tocache.enable(pipe, plan_for("dit", tokens=32))
    with pytest.raises(tocache.PlanMismatchError, match="image tokens: plan 32, here 16"):
        draw(pipe)
    tocache.enable(pipe, plan_for("dit"))
    draw(pipe)


def test_a_model_that_nobody_knows_is_named_with_its_nearest_and_the_way_to_add_it():
    class PixArtTransformer3DModel(torch.nn.Module):
        pass

    with pytest.raises(tocache.UnsupportedModelError) as caught:
        tocache.enable(PixArtTransformer3DModel())
    message = str(caught.value)
    assert "PixArtTransformer3DModel" in message.partition(";")[0]
    assert "PixArtTransformer2DModel" in message.partition(";")[2]
    assert "CONTRIBUTING.md" in message
    assert isinstance(caught.value, TypeError)


def test_a_subclass_of_a_known_model_is_served():
    class MyDiT(diffusers.DiTTransformer2DModel):
        pass

    model = MyDiT(num_layers=1, num_attention_heads=2, attention_head_dim=8, sample_size=8)
    tocache.enable(model)
    assert "MyDiT" in str(tocache.report(model))
    tocache.disable(model)
    assert type(model) is MyDiT


@pytest.mark.parametrize("target", [None, 3, "pipe", object(), lambda: None], ids=lambda target: type(target).__name__)
def test_what_is_neither_a_pipeline_nor_a_transformer(target):
    with pytest.raises(tocache.UnsupportedModelError, match="is neither a transformer nor a pipeline that has one"):
        tocache.enable(target)
    tocache.disable(target)  # nothing is enabled on it, so nothing happens
    for call in (tocache.report, lambda t: tocache.trace(t).__enter__()):
        with pytest.raises(tocache.NotEnabledError, match=r"call tocache\.enable"):
            call(target)


def test_a_model_that_is_not_built_as_its_family_says(pipe):
    tocache.enable(pipe, tocache.FORA(2))
    cached = draw(pipe)
    block = pipe.transformer.transformer_blocks[1]
    norm = block.norm3
    del block.norm3
    with pytest.raises(tocache.AttachError, match=r"has no module 'transformer_blocks\.1\.norm3'.*family 'dit'"):
        tocache.enable(pipe, tocache.FORA(3))
    block.norm3 = norm
    assert torch.equal(draw(pipe), cached)
    tocache.disable(pipe)
    del block.norm3
    with pytest.raises(tocache.AttachError):
        tocache.enable(pipe)
    assert attached(pipe) == []


def test_a_scheduler_that_cannot_be_followed(pipe):
    class Foreign:
        """Neither set_timesteps nor step."""

    pipe.scheduler = Foreign()
    with pytest.raises(tocache.TocacheError, match="Foreign"):
        tocache.enable(pipe)
    assert "_tocache" not in vars(pipe)
    assert "_tocache" not in vars(pipe.transformer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timesteps": 9, "cfg": "cond"}, "cfg='cond' is not allowed; allowed: None, 'cond,uncond', 'uncond,cond', "),
        ({"timesteps": 9, "cfg": True}, "cfg=True is not allowed"),
        ({"timesteps": 0, "cfg": None}, "timesteps=0 is not allowed; allowed: the loop's timesteps, one or more"),
        ({"timesteps": -3, "cfg": None}, "timesteps=-3 is not allowed"),
        ({"timesteps": [], "cfg": None}, "timesteps=.* is not allowed"),
        ({"timesteps": 2.5, "cfg": None}, r"timesteps=2\.5 is not allowed"),
        ({"timesteps": "12", "cfg": None}, "timesteps='12' is not allowed"),
        ({"timesteps": torch.tensor(12), "cfg": None}, r"timesteps=tensor\(12\) is not allowed"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be(pipe, arguments, message):
    tocache.enable(pipe, tocache.FORA(3))
    with pytest.raises(tocache.OptionError, match=message), tocache.run(pipe, **arguments):
        pass
    draw(pipe)
    assert tocache.report(pipe).steps == 9


def test_nothing_enabled(pipe):
    for call in (
        tocache.report,
        lambda target: tocache.run(target, timesteps=9, cfg=None).__enter__(),
        lambda target: tocache.trace(target).__enter__(),
        lambda target: tocache.watch(target, print).__enter__(),
    ):
        with pytest.raises(tocache.NotEnabledError, match="no cache is enabled on this DiTPipeline"):
            call(pipe)
    tocache.disable(pipe)
    assert attached(pipe) == []


@pytest.mark.parametrize("component", ["transformer", "scheduler"])
def test_taking_a_component_off_an_enabled_pipeline(pipe, component):
    """diffusers frees memory like this; putting it back must serve it again."""
    tocache.enable(pipe, tocache.FORA(2))
    cached = draw(pipe)
    old = getattr(pipe, component)
    setattr(pipe, component, None)
    assert getattr(pipe, component) is None
    setattr(pipe, component, old)
    assert torch.equal(draw(pipe), cached)
    tocache.disable(pipe)
    assert attached(pipe) == []


@pytest.mark.parametrize("other", [torch.nn.Linear(2, 2), None], ids=["linear", "compiled"])
def test_a_transformer_that_cannot_be_cached_is_not_assigned(pipe, other):
    tocache.enable(pipe, tocache.FORA(3))
    drawn, before = draw(pipe), pipe.transformer
    with pytest.raises(tocache.UnsupportedModelError):
        pipe.transformer = torch.compile(before, backend="eager") if other is None else other
    assert pipe.transformer is before
    assert torch.equal(draw(pipe), drawn)
    tocache.disable(pipe)
    assert attached(pipe) == []


def test_enabling_beside_a_run_of_another_pipeline_changes_nothing(pipe):
    other = type(pipe)(**pipe.components)
    other.set_progress_bar_config(disable=True)
    tocache.enable(pipe, tocache.FORA(3))
    tocache.enable(other, tocache.FORA(2))
    drawn = draw(other)
    with (
        tocache.run(pipe, timesteps=9, cfg="cond,uncond"),
        pytest.raises(tocache.RunError, match=r"in a tocache\.run"),
    ):
        tocache.enable(other, tocache.ToCa())
    assert torch.equal(draw(other), drawn)
    tocache.disable(pipe)
    tocache.disable(other)
    assert attached(pipe) == attached(other) == []


def test_a_method_that_is_named_like_a_preset_is_shown_as_it_is_written(pipe):
    with pytest.raises(
        tocache.UnknownNameError, match=r"'toca' is no preset but a method: pass tocache\.methods\.ToCa\(\)"
    ):
        tocache.enable(pipe, "toca")


@pytest.mark.parametrize("key", ["family", "model", "method"])
@pytest.mark.parametrize("value", [[], -5, None], ids=str)
def test_a_plan_file_with_something_else_for_a_name(tmp_path, key, value):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(tocache.plan.plan_to_dict(plan_for("dit")) | {key: value}))
    with pytest.raises(tocache.PlanFileError, match=f"the plan is damaged: '{key}' is .* and not a name"):
        tocache.load_plan(path)


def test_a_file_of_nothing_but_brackets(tmp_path):
    (tmp_path / "plan.json").write_text("[" * 100_000)
    with pytest.raises(tocache.PlanFileError, match="not JSON"):
        tocache.load_plan(tmp_path / "plan.json")
