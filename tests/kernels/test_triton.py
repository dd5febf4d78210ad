"""The Triton kernels against whole maps in float64: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tocache.errors import OptionError, UnknownNameError
from tocache.kernels import COLUMN_SUMS, ENTROPY, attention_column_sums, attention_entropy
from tocache.kernels.backends import has_triton, runs_triton

Map = Callable[..., torch.Tensor]
PLACE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = [(1, 1, 1, 1), (1, 3, 5, 8), (2, 4, 17, 7), (2, 2, 70, 16), (1, 2, 65, 33)]

pytestmark = pytest.mark.skipif(not (has_triton() and runs_triton(PLACE)), reason="Triton cannot run here")


def assert_near(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 2e-6, atol: float = 2e-6) -> None:
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=atol)


def masks(shape: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    """Of every kind, broadcast along different axes; in each some query sees no key, or all see all but one."""
    batch, heads, rows, columns = shape
    draw = torch.Generator().manual_seed(3)
    seen = torch.rand(batch, 1, rows, columns, generator=draw) > 0.3
    seen[:, :, 0] = False
    return {
        "bool": seen.to(PLACE),
        "bool of the keys": (torch.rand(batch, 1, 1, columns, generator=draw) > 0.3).to(PLACE),
        "added": torch.randn(1, heads, rows, columns, generator=draw).to(PLACE),
        "added, a column out of reach": torch.where(torch.arange(columns) == 0, -torch.inf, 0.0).to(PLACE),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_column_sums_equal_those_of_the_whole_map(
    head_mean_map: Map, projected: Map, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    query, key = (projected(shape, seed=seed, gain=1.5, dtype=dtype).to(PLACE) for seed in (0, 1))
    assert_near(attention_column_sums(query, key, backend="triton"), head_mean_map(query, key).sum(1))


@pytest.mark.parametrize("kind", list(masks((1, 1, 1, 1))))
def test_masks_of_any_kind_are_obeyed(head_mean_map: Map, projected: Map, kind: str) -> None:
    shape = (2, 2, 19, 21)
    query, key = projected((2, 2, 19, 8)).to(PLACE), projected((2, 2, 21, 8), seed=1).to(PLACE)
    mask = masks(shape)[kind]
    expected = head_mean_map(query, key, mask)
    assert_near(attention_column_sums(query, key, mask=mask, backend="triton"), expected.sum(1))
    mixed = -(expected * torch.log(expected + 1e-7)).sum(-1)
    assert_near(attention_entropy(query, key, mask=mask, backend="triton"), mixed)


def test_more_queries_or_keys_than_a_block_of_either(head_mean_map: Map, projected: Map) -> None:
    query, key = projected((1, 2, 130, 8)).to(PLACE), projected((1, 2, 67, 8), seed=1).to(PLACE)
    assert_near(attention_column_sums(query, key, backend="triton"), head_mean_map(query, key).sum(1))
    assert_near(attention_column_sums(key, query, backend="triton"), head_mean_map(key, query).sum(1))


@pytest.mark.parametrize("key_heads", [1, 2, 6])
def test_query_heads_share_their_key_head(head_mean_map: Map, projected: Map, key_heads: int) -> None:
    query, key = projected((2, 6, 9, 8)).to(PLACE), projected((2, key_heads, 11, 8), seed=1).to(PLACE)
    expected = head_mean_map(query, key)
    assert_near(attention_column_sums(query, key, backend="triton"), expected.sum(1))
    mixed = -(expected * torch.log(expected + 1e-7)).sum(-1)
    assert_near(attention_entropy(query, key, backend="triton"), mixed)


def test_a_known_logsumexp_saves_a_look_and_changes_nothing(projected: Map) -> None:
    query, key = (projected((2, 2, 33, 8), seed=seed).to(PLACE) for seed in (0, 1))
    known = torch.logsumexp(query.double() @ key.double().transpose(2, 3) * 8**-0.5, dim=-1).float()
    torch.testing.assert_close(
        attention_column_sums(query, key, logsumexp=known, backend="triton"),
        attention_column_sums(query, key, backend="triton"),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("words", [1, 5, 16, 77, 130])
def test_entropies_equal_those_of_the_whole_map(
    head_mean_map: Map, projected: Map, words: int, dtype: torch.dtype
) -> None:
    query, key = (
        projected((2, 3, 37, 8), dtype=dtype).to(PLACE),
        projected((2, 3, words, 8), seed=1, dtype=dtype).to(PLACE),
    )
    mixed = head_mean_map(query, key) * 0.5
    expected = -(mixed * torch.log(mixed + 1e-7)).sum(-1)
    assert_near(attention_entropy(query, key, weight=0.5, backend="triton"), expected, rtol=5e-6, atol=5e-6)


def test_texts_too_long_for_a_program_take_the_reference(projected: Map) -> None:
    query, key = projected((1, 1, 3, 8)).to(PLACE), projected((1, 1, 1030, 8), seed=1).to(PLACE)
    one, other = (attention_entropy(query, key, backend=name) for name in ("triton", "torch"))
    assert torch.equal(one, other)


@pytest.mark.parametrize("backends", [COLUMN_SUMS, ENTROPY])
def test_auto_takes_it_where_the_environment_says_so(backends, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    plain, triton = (backends.find(name, PLACE) for name in ("torch", "triton"))
    assert backends.find("auto", PLACE) is plain
    monkeypatch.setenv("TOCACHE_KERNELS", "triton")
    assert backends.find("auto", PLACE) is triton
    assert triton is not plain
    assert backends.find("torch", PLACE) is plain
    monkeypatch.setenv("TOCACHE_KERNELS", "cuda")
    with pytest.raises(UnknownNameError, match=r"'cuda'.*auto, torch, triton"):
        backends.find("auto", PLACE)


def test_where_it_cannot_run_it_is_refused_by_name_and_passed_over_by_auto(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TOCACHE_KERNELS", "triton")
    here = torch.device("cpu")
    assert not runs_triton(here)
    assert COLUMN_SUMS.find("auto", here) is COLUMN_SUMS.find("torch", here)
    with pytest.raises(OptionError, match=r"backend='triton' cannot run on cpu; allowed: cuda, or TRITON_INTERPRET=1"):
        COLUMN_SUMS.find("triton", here)
