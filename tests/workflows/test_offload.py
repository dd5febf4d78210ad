"""Weights that are elsewhere until they are needed, with the CPU in the accelerator's place."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading
from packaging.version import Version

import tocache

from .pipelines import PARTIAL, class_pipe, draw_class, draw_flux, flux_pipe

CPU = torch.device("cpu")
PIPES = [(class_pipe, draw_class), (flux_pipe, draw_flux)]
GROUPS = Version(version("diffusers")) >= Version("0.36") or torch.accelerator.current_accelerator() is not None
needs_groups = pytest.mark.skipif(
    not GROUPS, reason="diffusers 0.35 asks for the type of an accelerator even where the CPU takes its place"
)


def by_block(pipe: Any) -> None:
    options = {"offload_type": "block_level", "num_blocks_per_group": 1, "use_stream": False}
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, **options)


def by_leaf(pipe: Any) -> None:
    options = {"offload_type": "leaf_level", "use_stream": False}
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, **options)


def sequential(pipe: Any) -> None:
    """What `enable_sequential_cpu_offload` does to each model."""
    cpu_offload(pipe.transformer, execution_device=CPU)


def whole(pipe: Any) -> None:
    """What `enable_model_cpu_offload` does to each model."""
    cpu_offload_with_hook(pipe.transformer, CPU)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("offloaded_first", [True, False])
@pytest.mark.parametrize(
    "offload",
    [pytest.param(by_block, marks=needs_groups), pytest.param(by_leaf, marks=needs_groups), sequential, whole],
)
@pytest.mark.parametrize(("make", "draw"), PIPES, ids=["dit", "flux"])
def test_offloaded_weights_draw_the_same(make: Any, draw: Any, offload: Any, offloaded_first: bool) -> None:
    pipe = make()
    plain = draw(pipe)
    tocache.enable(pipe, PARTIAL)
    cached = draw(pipe)
    if offloaded_first:
        tocache.disable(pipe)
    offload(pipe)
    tocache.enable(pipe, PARTIAL)
    assert torch.equal(draw(pipe), cached)
    assert tocache.report(pipe).overruled == 0
    tocache.disable(pipe)
    assert torch.equal(draw(pipe), plain)


def test_layers_that_are_served_fetch_no_weights() -> None:
    """Sequential offloading loads a layer's weights before it runs, and a layer that is served does not run."""
    pipe = class_pipe()
    sequential(pipe)
    attention = pipe.transformer.transformer_blocks[1].attn1.to_q
    loads = []
    before = attention._hf_hook.pre_forward
    attention._hf_hook.pre_forward = lambda *args, **kwargs: (loads.append(1), before(*args, **kwargs))[1]
    draw_class(pipe)
    assert len(loads) == 10
    loads.clear()
    tocache.enable(pipe, tocache.FORA(3))
    draw_class(pipe)
    assert len(loads) == tocache.report(pipe).steps_by_kind["full"] == 4
