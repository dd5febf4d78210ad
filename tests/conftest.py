"""What all tests share: tiny seeded pipelines of every family, and how to call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline
from tocache.demo.random_video import random_video_pipeline

# The models here are so small that a second thread costs more than it gives, most of all on a busy machine.
torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """One family: how to make a tiny pipeline of it and draw latents with it."""

    name: str
    build: Callable[..., Any]
    prompts: tuple[Any, ...]
    unguided: dict[str, Any]  # arguments that switch classifier-free guidance off
    sizes: dict[str, Any]
    steps: int = 12

    def make(self, **options: Any) -> Any:
        pipe = self.build(**self.sizes | options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def draw(self, pipe: Any, *, seeds: tuple[int, ...] = (0,), **options: Any) -> torch.Tensor:
        """(pictures, …) what the pipeline draws, one seed and prompt per picture, as float tensors."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        prompts = [self.prompts[seed % len(self.prompts)] for seed in seeds]
        arguments: dict[str, Any] = {"num_inference_steps": self.steps, "output_type": "pt", "generator": generators}
        if self.name == "pixart":
            arguments |= {"use_resolution_binning": False, "clean_caption": False}
        if self.name == "flux":
            arguments |= {"output_type": "latent", "max_sequence_length": 16, "height": 128, "width": 128}
        if self.name == "opensora":
            small = {"height": 64, "width": 64, "num_frames": 17, "clean_caption": False}
            frames = pipe(prompts, **arguments | {"output_type": "latent"} | small | options).frames
            return torch.as_tensor(frames)
        # DiTPipeline answers output_type="pt" with an array before diffusers 0.41
        return torch.as_tensor(pipe(prompts, **arguments | options).images)


CASES = (
    Case("dit", random_class_pipeline, (207, 270, 360), {"guidance_scale": 1.0}, {"depth": 4, "sample_size": 16}),
    Case(
        "pixart",
        random_text_pipeline,
        ("a red circle", "a blue square above a circle", "sea"),
        {"guidance_scale": 1.0},
        {"depth": 4, "sample_size": 16},
    ),
    Case(
        "flux",
        random_flux_pipeline,
        ("a red circle", "a blue square above a circle", "sea"),
        {},
        {"double_depth": 2, "single_depth": 3, "sample_size": 16},
    ),
    Case(
        "opensora",
        random_video_pipeline,
        ("a red circle", "a blue square above a circle", "sea"),
        {"guidance_scale": 1.0},
        {"depth": 2},
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Every family in turn."""
    chosen: Case = request.param
    return chosen
