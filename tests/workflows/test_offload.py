"""Weights that are elsewhere until they are needed, as far as that runs without an accelerator."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from diffusers.hooks import apply_group_offloading
from packaging.version import Version

import tocache

from .pipelines import PARTIAL, class_pipe, draw_class

CPU = torch.device("cpu")


@pytest.mark.skipif(
    Version(version("diffusers")) < Version("0.36") and torch.accelerator.current_accelerator() is None,
    reason="diffusers 0.35 asks for the type of an accelerator even where the CPU takes its place",
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("offloaded_first", [True, False])
def test_groups_of_blocks_that_are_offloaded_draw_the_same(offloaded_first: bool) -> None:
    pipe = class_pipe()
    plain = draw_class(pipe)
    tocache.enable(pipe, PARTIAL)
    cached = draw_class(pipe)
    if offloaded_first:
        tocache.disable(pipe)
    options = {"offload_type": "block_level", "num_blocks_per_group": 1, "use_stream": False}
    apply_group_offloading(pipe.transformer, onload_device=CPU, offload_device=CPU, **options)
    tocache.enable(pipe, PARTIAL)
    assert torch.equal(draw_class(pipe), cached)
    assert tocache.report(pipe).overruled == 0
    tocache.disable(pipe)
    assert torch.equal(draw_class(pipe), plain)
