"""Entropies of the cross-attention against those of the whole map, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tocache.kernels import attention_entropy

Map = Callable[..., torch.Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def entropy_of(c: torch.Tensor) -> torch.Tensor:
    return -(c * torch.log(c + 1e-7)).sum(-1)


def assert_entropy(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.usefixtures("any_block_size")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 3, 17, 5, 8), (3, 4, 9, 20, 7)])
def test_entropy_equals_that_of_the_whole_map(
    head_mean_map: Map, projected: Map, shape: tuple[int, ...], weight: float, dtype: torch.dtype
) -> None:
    batch, heads, rows, columns, dim = shape
    query = projected((batch, heads, rows, dim), dtype=dtype)
    key = projected((batch, heads, columns, dim), seed=1, dtype=dtype)
    expected = entropy_of(weight * head_mean_map(query, key))
    assert_entropy(attention_entropy(query, key, weight=weight), expected)


@pytest.mark.parametrize("hidden", [-10000.0, -torch.inf, False])
def test_padded_words_count_nothing(projected: Map, hidden: float | bool) -> None:
    query, key = projected((2, 3, 7, 4)), projected((2, 3, 9, 4), seed=1)
    words = [9, 5]
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool) if hidden is False else torch.zeros(2, 1, 1, 9)
    for image, count in enumerate(words):
        mask[image, ..., count:] = hidden
    entropy = attention_entropy(query, key, mask=mask, weight=0.5)
    for image, count in enumerate(words):
        part = slice(image, image + 1)
        alone = attention_entropy(query[part], key[part, :, :count], weight=0.5)
        assert_entropy(entropy[part], alone.double())


@pytest.mark.usefixtures("any_block_size")
@pytest.mark.parametrize("shape", [(6,), (7, 6), (2, 1, 1, 6), (2, 4, 7, 6)])
def test_masks_of_any_broadcast_shape_are_obeyed(head_mean_map: Map, projected: Map, shape: tuple[int, ...]) -> None:
    query, key = projected((2, 4, 7, 5)), projected((2, 4, 6, 5), seed=1)
    mask = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 2
    assert_entropy(attention_entropy(query, key, mask=mask), entropy_of(head_mean_map(query, key, mask)))


@pytest.mark.parametrize("key_heads", [1, 2, 3])
def test_grouped_query_heads_share_their_key_head(head_mean_map: Map, projected: Map, key_heads: int) -> None:
    query, key = projected((2, 6, 7, 5)), projected((2, key_heads, 4, 5), seed=1)
    assert_entropy(attention_entropy(query, key), entropy_of(head_mean_map(query, key)))


def test_attention_to_one_word_has_no_entropy_and_even_attention_the_most() -> None:
    key = 1000 * torch.eye(4).view(1, 1, 4, 4)
    query = torch.stack([key[0, 0, 2], torch.zeros(4)]).view(1, 1, 2, 4)
    one, even = attention_entropy(query, key)[0].tolist()
    assert one == pytest.approx(0, abs=1e-6)
    assert even == pytest.approx(math.log(4), rel=1e-5)


def test_a_query_that_sees_no_word_has_no_entropy(projected: Map) -> None:
    query, key = projected((1, 2, 3, 4)), projected((1, 2, 5, 4), seed=1)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    entropy = attention_entropy(query, key, mask=mask)[0]
    assert entropy[1] == 0
    assert_entropy(entropy[[0, 2]], attention_entropy(query, key)[0, [0, 2]].double())


def test_the_scale_replaces_the_default(head_mean_map: Map, projected: Map) -> None:
    query, key = projected((2, 3, 7, 4)), projected((2, 3, 5, 4), seed=1)
    entropy = attention_entropy(query, key, scale=0.125)
    assert_entropy(entropy, entropy_of(head_mean_map(query, key, scale=0.125)))
    assert not torch.allclose(entropy, attention_entropy(query, key))


def test_inputs_that_want_gradients_are_read_without_any(projected: Map) -> None:
    query, key = projected((1, 2, 5, 4)).requires_grad_(), projected((1, 2, 3, 4), seed=1).requires_grad_()
    assert not attention_entropy(query, key).requires_grad
