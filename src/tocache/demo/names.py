"""The demo pipelines by name: what ``tocache ... demo:random-text`` loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocache.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline

DEMO_NAMES: tuple[str, ...] = ("demo:random-class", "demo:random-flux", "demo:random-text")
"""Every name that `load_demo` knows, sorted."""


def load_demo(name: str) -> DiffusionPipeline:
    """Build the demo pipeline called `name` on the CPU in float32; nothing is downloaded.

    Args:
        name: one of `DEMO_NAMES`.

    Raises:
        UnknownNameError: `name` is not one of `DEMO_NAMES`; the message lists them.
    """
    if name not in DEMO_NAMES:
        raise UnknownNameError.of("demo pipeline", name, DEMO_NAMES)
    # Imported here: importing diffusers and transformers takes seconds, listing the names must not.
    from tocache.demo import random_pipelines

    builders: dict[str, Callable[[], DiffusionPipeline]] = {
        "demo:random-class": random_pipelines.random_class_pipeline,
        "demo:random-flux": random_pipelines.random_flux_pipeline,
        "demo:random-text": random_pipelines.random_text_pipeline,
    }
    return builders[name]()
