"""The demo pipelines by name: what ``tocache ... demo:text`` loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tocache.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline

WEIGHTS = Path(__file__).parent / "weights"
"""Folders of the trained demos, in diffusers' format, each with a model card."""

_FOLDERS = {f"demo:{name}": WEIGHTS / name for name in ("class", "text", "video")}
_TRAINED = ("demo:class", "demo:text", "demo:video")
_RANDOM = ("demo:random-class", "demo:random-flux", "demo:random-text", "demo:random-video")

DEMO_NAMES: tuple[str, ...] = tuple(sorted((*_TRAINED, *_RANDOM)))
"""Every name that `load_demo` knows, sorted."""


def demo_folder(name: str) -> Path:
    """Where a trained demo stands, or will: what its pipeline's class loads, with its model card.

    Raises:
        UnknownNameError: no demo called `name` can be trained; the message lists them.
    """
    if name not in _FOLDERS:
        raise UnknownNameError.of("trained demo pipeline", name, tuple(_FOLDERS))
    return _FOLDERS[name]


def load_demo(name: str) -> DiffusionPipeline:
    """The demo pipeline called `name` on the CPU in float32; nothing is downloaded.

    Its `plain_captions` is True: the captions of the demos' world need no cleaning. `generate` and the benchmark then
    ask for none; a call of your own says so with ``clean_caption=False``.

    Args:
        name: one of `DEMO_NAMES`: trained, or random and built on the spot.

    Raises:
        UnknownNameError: `name` is not one of `DEMO_NAMES`; the message lists them.
    """
    if name not in DEMO_NAMES:
        raise UnknownNameError.of("demo pipeline", name, DEMO_NAMES)
    pipe = _load(_FOLDERS[name]) if name in _TRAINED else _random(name)
    pipe.plain_captions = True
    return pipe


def _random(name: str) -> DiffusionPipeline:
    # Imported here: importing diffusers and transformers takes seconds, listing the names must not.
    from tocache.demo import random_pipelines, random_video

    builders: dict[str, Callable[[], DiffusionPipeline]] = {
        "demo:random-class": random_pipelines.random_class_pipeline,
        "demo:random-flux": random_pipelines.random_flux_pipeline,
        "demo:random-text": random_pipelines.random_text_pipeline,
        "demo:random-video": random_video.random_video_pipeline,
    }
    return builders[name]()


def _load(folder: Path) -> DiffusionPipeline:
    import torch

    from tocache.models.architectures import pipeline_class

    with warnings.catch_warnings():
        # the new name of this argument is unknown to the oldest supported version
        warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
        pipe: DiffusionPipeline = pipeline_class(folder).from_pretrained(folder, torch_dtype=torch.float32)
    return pipe
