"""Rows put into a feature, gated and added to the stream, against float64."""

from __future__ import annotations

import pytest
import torch

from tocache.kernels import gated_residual

from .places import BACKENDS, DTYPES, PLACE, ROUNDING, some

SHAPES = [(1, 1, 1, 1), (2, 7, 3, 4), (3, 33, 20, 5), (2, 100, 70, 130), (2, 9, 0, 8)]  # batch, tokens, fresh, width


def inputs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    batch, tokens, count, width = shape
    draw = torch.Generator().manual_seed(2)
    sizes = (tokens, 1, tokens, count)
    residual, gate, feature, rows = (torch.randn(batch, n, width, generator=draw).to(PLACE, dtype) for n in sizes)
    return [residual, gate, feature, rows, some(batch, tokens, count)]


def put(feature: torch.Tensor, rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    feature = feature.clone()
    for b in range(feature.shape[0]):
        feature[b, index[b]] = rows[b]
    return feature


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_stream_gets_the_feature_and_the_feature_its_rows(
    shape: tuple[int, int, int, int], dtype: torch.dtype, backend: str
) -> None:
    residual, gate, feature, rows, index = inputs(shape, dtype)
    expected, before = put(feature, rows, index), residual.clone()
    found = gated_residual(residual, gate, feature, rows, index, backend=backend)
    assert torch.equal(feature, expected)
    assert torch.equal(residual, before)
    assert found.dtype == dtype
    wanted = before.double() + gate.double() * expected.double()
    torch.testing.assert_close(found.double(), wanted, rtol=4 * ROUNDING[dtype], atol=16 * ROUNDING[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_gate_and_without_fresh_rows(backend: str) -> None:
    residual, gate, feature, rows, index = inputs((2, 40, 7, 9), torch.float32)
    kept = feature.clone()
    torch.testing.assert_close(gated_residual(residual, None, feature, backend=backend), residual + kept)
    torch.testing.assert_close(gated_residual(residual, gate, feature, backend=backend), residual + gate * kept)
    assert torch.equal(feature, kept)
    found = gated_residual(residual, None, feature, rows, index, backend=backend)
    torch.testing.assert_close(found, residual + put(kept, rows, index))


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_of_any_layout(backend: str) -> None:
    base = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0)).to(PLACE)
    gate = torch.randn(2, 6 * 8, generator=torch.Generator().manual_seed(1)).to(PLACE).chunk(6, dim=1)[2][:, None]
    residual, feature, index = base[:, :12, :8], base[:, 14:26, 8:16], some(2, 12, 5)
    rows = base[:, 26:, 16:].expand(2, -1, -1)[:, :1].expand(2, 5, 8)
    expected = put(feature, rows, index)
    found = gated_residual(residual, gate, feature, rows, index, backend=backend)
    assert torch.equal(base[:, 14:26, 8:16], expected)
    torch.testing.assert_close(found, residual + gate * expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_another_dtype_are_cast_as_they_are_put(backend: str) -> None:
    residual, gate, feature, rows, index = inputs((2, 9, 4, 8), torch.bfloat16)
    expected = put(feature, rows, index)
    gated_residual(residual, gate, feature, rows.to(torch.bfloat16), index, backend=backend)
    assert torch.equal(feature, expected)
