"""Miniature pipelines that need no download.

Importing this package imports neither torch nor diffusers; the builders are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocache.demo.names import DEMO_NAMES, load_demo

if TYPE_CHECKING:
    from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline

__all__ = ["DEMO_NAMES", "load_demo", "random_class_pipeline", "random_flux_pipeline", "random_text_pipeline"]


def __getattr__(name: str) -> object:
    """Load the builders on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tocache.demo import random_pipelines

    return getattr(random_pipelines, name)
