"""Rows out of a feature and back, against plain indexing."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tocache.kernels import gather_rows, scatter_rows

SHAPES = [(1, 7, 3), (3, 7, 5), (2, 16, 1)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def feature(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def some(batch: int, tokens: int, count: int) -> torch.Tensor:
    return torch.rand(batch, tokens, generator=torch.Generator().manual_seed(1)).argsort(1)[:, :count]


def rows_by_loop(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.stack([row[chosen] for row, chosen in zip(x, index, strict=True)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", ["none", "one", "some", "all"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gathered_rows_are_the_chosen_tokens_in_order(
    shape: tuple[int, int, int], count: str, dtype: torch.dtype
) -> None:
    x = feature(*shape, dtype=dtype)
    index = some(shape[0], shape[1], {"none": 0, "one": 1, "some": 4, "all": shape[1]}[count])
    rows = gather_rows(x, index)
    assert rows.dtype == dtype
    assert torch.equal(rows, rows_by_loop(x, index))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", ["none", "one", "some", "all"])
@pytest.mark.parametrize("shape", SHAPES)
def test_scattered_rows_replace_the_chosen_tokens_alone(
    shape: tuple[int, int, int], count: str, dtype: torch.dtype
) -> None:
    batch, tokens, width = shape
    into = feature(*shape, dtype=dtype)
    index = some(batch, tokens, {"none": 0, "one": 1, "some": 4, "all": tokens}[count])
    rows = torch.arange(index.numel() * width).view(batch, -1, width).to(dtype)
    expected = into.clone()
    for b in range(batch):
        for j, n in enumerate(index[b].tolist()):
            expected[b, n] = rows[b, j]
    assert scatter_rows(into, rows, index) is into
    assert torch.equal(into, expected)


def slice_of_tokens() -> torch.Tensor:
    return feature(3, 12, 5)[:, 4:]


def transposed_heads() -> torch.Tensor:
    return feature(3, 5, 8).transpose(1, 2)


def broadcast_rows() -> torch.Tensor:
    return feature(1, 8, 5).expand(3, -1, -1)


@pytest.mark.parametrize("view", [slice_of_tokens, transposed_heads, broadcast_rows], ids=lambda f: f.__name__)
def test_rows_are_gathered_from_any_view(view) -> None:  # type: ignore[no-untyped-def]
    x, index = view(), some(3, 8, 4)
    assert torch.equal(gather_rows(x, index), rows_by_loop(x, index))


def test_a_slice_is_gathered_without_copying_all_of_it() -> None:
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if out._base is None:
                self.elements = max(self.elements, out.numel())
            return out

    image, index = feature(2, 100, 8)[:, 20:], some(2, 80, 3)
    with Largest() as largest:
        gather_rows(image, index)
    assert largest.elements == 2 * 3 * 8


@pytest.mark.parametrize("view", [slice_of_tokens, transposed_heads], ids=lambda f: f.__name__)
def test_rows_are_scattered_through_a_view_into_its_base(view) -> None:  # type: ignore[no-untyped-def]
    into, index = view(), some(3, 8, 4)
    expected = into.clone()
    rows = feature(3, 4, 5) + 10
    for b in range(3):
        expected[b, index[b]] = rows[b]
    scatter_rows(into, rows, index)
    assert into._base is not None
    assert torch.equal(into, expected)


def test_numbers_per_token_are_gathered_and_scattered_like_features() -> None:
    entropy, index = feature(2, 6), some(2, 6, 3)
    rows = gather_rows(entropy, index)
    assert torch.equal(rows, entropy.gather(1, index))
    expected = entropy.scatter(1, index, rows + 1)
    assert torch.equal(scatter_rows(entropy.clone(), rows + 1, index), expected)


def test_features_per_head_are_gathered_with_all_their_axes() -> None:
    x, index = feature(2, 6, 3, 4), some(2, 6, 3)
    assert torch.equal(gather_rows(x, index), rows_by_loop(x, index))


def test_what_was_gathered_can_be_scattered_back_without_a_change() -> None:
    x, index = feature(2, 9, 4), some(2, 9, 5)
    assert torch.equal(scatter_rows(x.clone(), gather_rows(x, index), index), x)
