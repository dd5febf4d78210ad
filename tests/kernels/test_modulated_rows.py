"""Rows gathered, normalised and modulated, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tocache.errors import UnknownNameError
from tocache.kernels import MODULATED_ROWS, modulated_rows

from .places import BACKENDS, DTYPES, PLACE, ROUNDING, some

SHAPES = [(1, 1, 1, 1), (2, 7, 3, 4), (3, 16, 5, 33), (2, 40, 40, 64), (1, 9, 0, 8)]  # batch, tokens, chosen, width


def inputs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    batch, tokens, count, width = shape
    draw = torch.Generator().manual_seed(2)
    x, factor, shift = (torch.randn(batch, n, width, generator=draw) * 2 for n in (tokens, 1, 1))
    return [t.to(PLACE, dtype) for t in (x, factor, shift)] + [some(batch, tokens, count)]


def exact(x: torch.Tensor, index: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    rows = torch.stack([row[chosen] for row, chosen in zip(x.double(), index, strict=True)])
    return F.layer_norm(rows, rows.shape[-1:], eps=1e-6) * factor.double() + shift.double()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_chosen_rows_are_normalised_and_modulated(
    shape: tuple[int, int, int, int], dtype: torch.dtype, backend: str
) -> None:
    x, factor, shift, index = inputs(shape, dtype)
    found = modulated_rows(x, index, factor, shift, eps=1e-6, backend=backend)
    assert found.dtype == dtype
    wanted = exact(x, index, factor, shift)
    # the reference rounds three times, each time at the size of what it then holds
    torch.testing.assert_close(found.double(), wanted, rtol=4 * ROUNDING[dtype], atol=16 * ROUNDING[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_of_any_layout(backend: str) -> None:
    whole = torch.randn(2, 20, 24, generator=torch.Generator().manual_seed(0)).to(PLACE)
    chunks = torch.randn(2, 6 * 8, generator=torch.Generator().manual_seed(1)).to(PLACE).chunk(6, dim=1)
    x, factor, shift, index = whole[:, 5:, 8:16], chunks[1][:, None], chunks[4][:, None], some(2, 15, 4)
    found = modulated_rows(x, index, factor, shift, eps=1e-6, backend=backend)
    torch.testing.assert_close(found.double(), exact(x, index, factor, shift), rtol=1e-5, atol=1e-5)
    one = modulated_rows(x, index, factor[:1], shift[:1], eps=1e-6, backend=backend)  # for all rows alike
    torch.testing.assert_close(one.double(), exact(x, index, factor[:1], shift[:1]), rtol=1e-5, atol=1e-5)


def test_the_reference_is_what_a_block_does() -> None:
    x, factor, shift, index = inputs((2, 9, 4, 8), torch.bfloat16)
    norm = torch.nn.LayerNorm(8, eps=1e-6, elementwise_affine=False)
    rows = torch.stack([row[chosen] for row, chosen in zip(x, index, strict=True)])
    found = modulated_rows(x, index, factor, shift, eps=1e-6, backend="torch")
    assert torch.equal(found, norm(rows) * factor + shift)


def test_an_unknown_backend_is_refused_with_those_that_there_are() -> None:
    x, factor, shift, index = inputs((1, 4, 2, 4), torch.float32)
    with pytest.raises(UnknownNameError, match=r"'cuda'.*auto, torch"):
        modulated_rows(x, index, factor, shift, eps=1e-6, backend="cuda")
    assert MODULATED_ROWS.find("auto", torch.device("cpu")) is MODULATED_ROWS.find("torch", torch.device("cpu"))
