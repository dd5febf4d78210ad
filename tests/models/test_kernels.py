"""What the engine puts off for a kernel's sake, in every family: whatever blocks do with it, no bit is another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tocache
from tocache.kernels import GATED_RESIDUAL, MODULATED_ROWS
from tocache.kernels.gated_residual import gated_residual_torch
from tocache.kernels.modulated_rows import modulated_rows_torch


@pytest.fixture
def put_off() -> Iterator[list[str]]:
    """Another backend than torch is preferred, which computes what torch does; yields the names of what it was for."""
    done: list[str] = []

    def gated(*args: Any) -> torch.Tensor:
        done.append("gated")
        return gated_residual_torch(*args)

    def modulated(*args: Any, **options: Any) -> torch.Tensor:
        done.append("modulated")
        return modulated_rows_torch(*args, **options)

    GATED_RESIDUAL.register("as torch", gated, devices=("cpu",))
    MODULATED_ROWS.register("as torch", modulated, devices=("cpu",))
    yield done
    for backends in (GATED_RESIDUAL, MODULATED_ROWS):
        backends.register("as torch", backends.find("torch", torch.device("cpu")))  # preferred nowhere


# in other families blocks may do something else, and get a tensor
WHOLE = {"dit", "pixart", "flux", "sd3", "sd3.5"}


@pytest.mark.parametrize("method", [tocache.ToCa(3, 0.3), tocache.FORA(3)], ids=lambda m: m.name)
def test_pictures_are_those_of_a_model_that_puts_nothing_off(case: Any, method: tocache.Method, put_off: Any) -> None:
    pipe = case.make()
    tocache.enable(pipe, method)
    drawn = case.draw(pipe)
    report = tocache.report(pipe)
    assert report.cache_bytes_planned == report.cache_bytes_peak
    done = set(put_off)
    GATED_RESIDUAL.register("as torch", gated_residual_torch)
    MODULATED_ROWS.register("as torch", modulated_rows_torch)
    assert torch.equal(case.draw(pipe), drawn)
    plain = tocache.report(pipe)
    assert (report.flops_computed, report.overruled) == (plain.flops_computed, plain.overruled)
    if case.name in WHOLE:
        assert done == ({"gated", "modulated"} if report.steps_by_kind.get("partial") else {"gated"})
