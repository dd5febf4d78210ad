"""Miniature pipelines that need no download.

Importing this package imports neither torch nor diffusers; the builders are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocache.demo.names import DEMO_NAMES, demo_folder, load_demo

if TYPE_CHECKING:
    from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline
    from tocache.demo.random_video import random_video_pipeline

__all__ = [
    "DEMO_NAMES",
    "demo_folder",
    "load_demo",
    "random_class_pipeline",
    "random_flux_pipeline",
    "random_text_pipeline",
    "random_video_pipeline",
]


def __getattr__(name: str) -> object:
    """Load the builders on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tocache.demo import random_pipelines, random_video

    return getattr(random_video if name == "random_video_pipeline" else random_pipelines, name)
