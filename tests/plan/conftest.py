"""Small anatomies of three shapes of model, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tocache.plan import Anatomy, Cost, Pass, Site

# the same examples every time, however busy the machine is
settings.register_profile("tocache", deadline=None, derandomize=True, database=None)
settings.load_profile("tocache")


def two_stream(depth: int = 3, tokens: int = 16, rows: int = 2, **shape: Any) -> Anatomy:
    """Self-attention, cross-attention and MLP in each block, over one stream of image tokens."""
    sites = []
    for b in range(depth):
        place: dict[str, Any] = {"group": "image", "stack": "blocks", "block": b, "depth": depth, "width": 8}
        maps = {"self_map": f"blocks.{b}.attn", "cross_map": f"blocks.{b}.cross"}
        sites.append(Site(f"blocks.{b}.attn", "self-attention", **place, rows=False))
        sites.append(Site(f"blocks.{b}.cross", "cross-attention", **place, rows=True, **maps))
        sites.append(Site(f"blocks.{b}.ff", "mlp", **place, rows=True, **maps))
    costs = (Cost(1000, 0, always=7, scores=50), Cost(100, 5, scores=20), Cost(320, 20)) * depth
    return Anatomy("toy", "Toy", Pass(rows, {"image": tokens}, (4, tokens // 4), **shape), tuple(sites), costs)


def fused(depth: int = 2, image: int = 12, text: int = 4, rows: int = 2, **shape: Any) -> Anatomy:
    """A double-stream block with two groups, and fused single-stream blocks."""
    sites = []
    place: dict[str, Any] = {"stack": "double", "block": 0, "depth": 1, "width": 8}
    for group in ("image", "text"):
        sites.append(Site(f"double.0.attn[{group}]", "self-attention", group, **place, rows=False))
    for group in ("image", "text"):
        own = f"double.0.attn[{group}]"
        sites.append(Site(f"double.0.ff[{group}]", "mlp", group, **place, rows=True, self_map=own))
    for b in range(depth):
        place = {"group": "joint", "stack": "single", "block": b, "depth": depth, "width": 8}
        name = f"single.{b}"
        sites.append(Site(f"{name}.attn", "self-attention", **place, rows=False))
        sites.append(Site(name, "parallel", **place, rows=True, self_map=f"{name}.attn", inside=(f"{name}.attn",)))
    tokens = {"image": image, "text": text, "joint": image + text}
    costs = tuple(Cost(100 + i, 0 if i % 2 else 3, always=i, scores=i) for i in range(len(sites)))
    return Anatomy("toy-fused", "ToyFused", Pass(rows, tokens, **shape), tuple(sites), costs)


@pytest.fixture(scope="session")
def toy() -> Callable[..., Anatomy]:
    """Makes an anatomy with cross-attention: toy(depth, tokens, rows, **pass fields)."""
    return two_stream


@pytest.fixture(scope="session")
def toy_fused() -> Callable[..., Anatomy]:
    """Makes an anatomy with fused blocks: toy_fused(depth, image, text, rows, **pass fields)."""
    return fused
