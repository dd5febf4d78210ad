"""Where kernels run here, and with which backends: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from tocache.kernels.backends import has_triton, runs_triton

PLACE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROUNDING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}

_runs = has_triton() and runs_triton(PLACE)
TRITON = pytest.param("triton", marks=pytest.mark.skipif(not _runs, reason="Triton cannot run here"))
BACKENDS = ("torch", TRITON)


def some(batch: int, tokens: int, count: int) -> torch.Tensor:
    """(batch, count) int64, tokens of each row in a random order."""
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(1)).argsort(1)[:, :count].to(PLACE)
