"""What all tests share: tiny seeded pipelines of every family, and how to call them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline
from tocache.demo.random_video import random_video_pipeline

# The models here are so small that a second thread costs more than it gives, most of all on a busy machine.
torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """One family: how to make a tiny pipeline of it and draw latents with it.

    `call` is what its pipeline is called with besides prompts, seeds and steps, and `resized` what a call for another
    size is; `output` is the field of the result that holds the pictures. `needs` are classes that not every supported
    diffusers has.
    """

    name: str
    build: Callable[..., Any]
    prompts: tuple[Any, ...]
    unguided: dict[str, Any]  # arguments that switch classifier-free guidance off
    sizes: dict[str, Any]
    call: dict[str, Any] = field(default_factory=dict)
    resized: dict[str, Any] = field(default_factory=lambda: {"height": 256, "width": 128})
    output: str = "images"
    flow: bool = False  # schedulers of another class would need another prediction
    scores: dict[str, float] = field(default_factory=lambda: {"influence": 1.0})  # of its recipe
    steps: int = 12
    needs: tuple[str, ...] = ()
    rows: int = 1  # of one picture without guidance
    close: float = 1e-6  # how near the same picture comes in float64, beside others or with its tokens in another order
    ignored: tuple[str, ...] = ()  # warnings of the model itself
    slow: bool = False  # other cases have blocks of the same kinds; run with all tests only
    asked: str | None = None  # the argument that takes the prompts, where it is not the first
    each: dict[str, Any] = field(default_factory=dict)  # arguments of which the pipeline wants one for each prompt

    def make(self, **options: Any) -> Any:
        pipe = self.build(**self.sizes | options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def draw(self, pipe: Any, *, seeds: tuple[int, ...] = (0,), **options: Any) -> torch.Tensor:
        """(pictures, …) what the pipeline draws, one seed and prompt per picture, as float tensors."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        prompts = [self.prompts[seed % len(self.prompts)] for seed in seeds]
        arguments: dict[str, Any] = {"num_inference_steps": self.steps, "output_type": "pt", "generator": generators}
        arguments |= self.call | {name: [value] * len(seeds) for name, value in self.each.items()} | options
        drawn = pipe(prompts, **arguments) if self.asked is None else pipe(**{self.asked: prompts}, **arguments)
        found = getattr(drawn, self.output)
        # a video that is drawn in sections comes as a list of what there was after each; DiTPipeline answers
        # output_type="pt" with an array before diffusers 0.41
        return found[-1] if isinstance(found, list) else torch.as_tensor(found)


TEXTS = ("a red circle", "a blue square above a circle", "sea")
CASES = (
    Case("dit", random_class_pipeline, (207, 270, 360), {"guidance_scale": 1.0}, {"depth": 4, "sample_size": 16}),
    Case(
        "pixart",
        random_text_pipeline,
        TEXTS,
        {"guidance_scale": 1.0},
        {"depth": 4, "sample_size": 16},
        {"use_resolution_binning": False, "clean_caption": False},
        scores={"entropy": 1.0},
    ),
    Case(
        "flux",
        random_flux_pipeline,
        TEXTS,
        {},
        {"double_depth": 2, "single_depth": 3, "sample_size": 16},
        {"output_type": "latent", "max_sequence_length": 16, "height": 128, "width": 128},
        flow=True,
    ),
    Case(
        "opensora",
        random_video_pipeline,
        TEXTS,
        {"guidance_scale": 1.0},
        {"depth": 2},
        {"output_type": "latent", "height": 64, "width": 64, "num_frames": 17, "clean_caption": False},
        output="frames",
        flow=True,
        scores={"entropy": 1.0},
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Every family that has a demo; `tests/models` has a fixture of this name for all of them."""
    chosen: Case = request.param
    return chosen


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that is installed here; TOCACHE_CHROMIUM may name it. Tests skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    program = os.environ.get("TOCACHE_CHROMIUM") or next(filter(None, found), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in TOCACHE_CHROMIUM")
    with playwright.sync_playwright() as running:
        # containers of CI have no sandbox of their own, and what is opened are our own pages
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
