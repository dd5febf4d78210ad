"""The random miniatures: reproducible, savable with diffusers' own means, and alive where caching looks."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline, FluxPipeline, PixArtAlphaPipeline

from tocache.demo import DEMO_NAMES, load_demo, random_class_pipeline, random_flux_pipeline, random_text_pipeline
from tocache.demo.random_text import tiny_clip_tokenizer, tiny_t5_tokenizer
from tocache.errors import UnknownNameError


@dataclass(frozen=True)
class Family:
    """How to build a very small pipeline of one family and draw with it: 16 tokens, 64 × 64 pixels."""

    build: Callable[..., Any]
    pipeline: type[DiffusionPipeline]
    sizes: dict[str, int]
    prompts: tuple[Any, Any]
    arguments: dict[str, Any]
    plain: dict[str, Any]  # for a call with the pipeline's defaults

    def make(self, seed: int = 0, **options: Any) -> Any:
        pipe = self.build(seed, **self.sizes | options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def draw(self, pipe: Any, *, prompt: int = 0, seed: int = 0, steps: int = 4) -> torch.Tensor:
        """One picture of 64 × 64 pixels, in [0, 1]."""
        images = pipe(
            self.prompts[prompt],
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
            **self.arguments,
        ).images
        return torch.as_tensor(images)  # DiTPipeline answers with an array in older diffusers


WORDS = ("a red fox in the snow", "blue waves at night")
FAMILIES = {
    "text": Family(
        random_text_pipeline,
        PixArtAlphaPipeline,
        {"depth": 3, "sample_size": 8},
        WORDS,
        {"use_resolution_binning": False, "clean_caption": False},
        {"clean_caption": False},
    ),
    "class": Family(random_class_pipeline, DiTPipeline, {"depth": 3, "sample_size": 8}, ([207], [360]), {}, {}),
    "flux": Family(
        random_flux_pipeline,
        FluxPipeline,
        {"double_depth": 1, "single_depth": 2, "sample_size": 8},
        WORDS,
        {"height": 64, "width": 64, "max_sequence_length": 32},
        {},
    ),
}


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small run no faster on more threads, and far slower where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def watch_calls(transformer: torch.nn.Module) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of the transformer's calls, filled while it runs."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    transformer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    return calls


def test_same_seed_draws_the_same_picture(family: Family) -> None:
    torch.manual_seed(1)
    first = family.draw(family.make())
    torch.manual_seed(2)
    assert torch.equal(first, family.draw(family.make()))


def test_weights_prompt_and_noise_each_change_the_picture(family: Family) -> None:
    pipe = family.make()
    first = family.draw(pipe)
    others = [family.draw(pipe, prompt=1), family.draw(pipe, seed=1), family.draw(family.make(1))]
    assert all((first - other).abs().mean() > 0.01 for other in others)


def test_saving_and_loading_keeps_the_picture(family: Family, tmp_path: Path) -> None:
    pipe = family.make()
    pipe.save_pretrained(tmp_path)
    loaded = family.pipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(family.draw(pipe), family.draw(loaded))


def test_building_leaves_global_random_states_alone(family: Family) -> None:
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    family.make(3)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, np.random.get_state(), strict=True))
    assert python_state == random.getstate()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_single(family: Family, dtype: torch.dtype) -> None:
    half = family.make(dtype=dtype)
    assert {p.dtype for c in half.components.values() if isinstance(c, torch.nn.Module) for p in c.parameters()} == {
        dtype
    }
    images = family.draw(half).float()
    assert images.isfinite().all()
    assert (images - family.draw(family.make())).abs().mean() < 0.05


def test_default_call_draws_256_pixels_neither_flat_nor_saturated(family: Family) -> None:
    pipe = family.build()
    pipe.set_progress_bar_config(disable=True)
    image = pipe(family.prompts[0], generator=torch.Generator().manual_seed(0), **family.plain).images[0]
    pixels = np.asarray(image)
    assert pixels.shape == (256, 256, 3)
    assert pixels.std() > 20
    assert np.isin(pixels, (0, 255)).mean() < 0.2


def test_default_models_are_small_and_deep(family: Family) -> None:
    transformer = family.build().transformer
    assert sum(p.numel() for p in transformer.parameters()) < 2_000_000
    assert len(transformer.transformer_blocks) + len(getattr(transformer, "single_transformer_blocks", ())) >= 9


@pytest.mark.parametrize("depth", [1, 28])
@pytest.mark.parametrize("seed", [0, 1])
def test_latents_stay_bounded(family: Family, depth: int, seed: int) -> None:
    depths = {key: depth for key in family.sizes if key.endswith("depth")}
    pipe = family.make(seed, **depths)
    calls = watch_calls(pipe.transformer)
    assert family.draw(pipe, steps=8).isfinite().all()
    latents = [args[0] if args else kwargs["hidden_states"] for args, kwargs in calls]
    assert all(0.3 < x.std() < 6 for x in latents)


@torch.no_grad()
def test_time_changes_the_output(family: Family) -> None:
    pipe = family.make()
    calls = watch_calls(pipe.transformer)
    family.draw(pipe, steps=2)
    args, kwargs = calls[0]
    kwargs = kwargs | {"return_dict": False}
    early = pipe.transformer(*args, **kwargs)[0]
    late = pipe.transformer(*args, **kwargs | {"timestep": kwargs["timestep"] * 0.2})[0]
    assert (early - late).norm() > 0.1 * early.norm()


def test_every_feature_changes_but_slowly_from_step_to_step(family: Family) -> None:
    pipe = family.make(**{key: 6 for key in family.sizes if key.endswith("depth")})
    features: dict[str, list[torch.Tensor]] = {}
    for name, module in pipe.transformer.named_modules():
        if name.rpartition(".")[2] in {"attn", "attn1", "attn2", "ff", "ff_context", "proj_mlp"}:

            def keep(_: Any, __: Any, out: Any, name: str = name) -> None:
                features.setdefault(name, []).append(out[0] if isinstance(out, tuple) else out)

            module.register_forward_hook(keep)
    family.draw(pipe, steps=20)
    for name, steps in features.items():
        changes = [float((new - old).norm() / old.norm()) for old, new in pairwise(steps)]
        assert 0.005 < np.median(changes) < 0.6, name
        assert steps[0].std() > 0.05, name


@torch.no_grad()
def test_text_pipeline_of_sample_size_128_takes_micro_conditions() -> None:
    pipe = random_text_pipeline(depth=1, hidden=48, sample_size=128)
    pipe.set_progress_bar_config(disable=True)
    calls = watch_calls(pipe.transformer)
    options = FAMILIES["text"].arguments
    pipe(WORDS[0], height=64, width=64, num_inference_steps=2, output_type="latent", **options)
    assert calls[0][1]["added_cond_kwargs"]["resolution"].tolist() == [[64, 64], [64, 64]]


def test_class_pipeline_knows_labels_and_the_null_class(tmp_path: Path) -> None:
    pipe = FAMILIES["class"].make()
    pipe.save_pretrained(tmp_path)
    for each in (pipe, DiTPipeline.from_pretrained(tmp_path)):
        assert each.get_label_ids(["otter", "red panda"]) == [360, 387]
    table = pipe.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    assert table.num_embeddings == 1001


@pytest.mark.parametrize("make", [tiny_t5_tokenizer, tiny_clip_tokenizer])
def test_tokenizers_tell_words_apart_and_spell_them_back(make: Callable[[], Any]) -> None:
    tokenizer = make()
    words = ["fox", "of x", "cat", "act", "the", "thee", "red!", ""]
    batch = tokenizer(words, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
    assert len({tuple(ids) for ids in batch.input_ids.tolist()}) == len(words)
    decoded = tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
    assert [text.replace(" !", "!").strip() for text in decoded] == words


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("demo:random-class", DiTPipeline),
        ("demo:random-flux", FluxPipeline),
        ("demo:random-text", PixArtAlphaPipeline),
    ],
)
def test_load_demo_by_name(name: str, pipeline: type[DiffusionPipeline]) -> None:
    assert name in DEMO_NAMES
    assert type(load_demo(name)) is pipeline


def test_unknown_name_says_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="demo:random-text"):
        load_demo("demo:random-txt")


def test_listing_the_names_loads_no_builder() -> None:
    code = "import sys, tocache.demo; print('tocache.demo.random_pipelines' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
