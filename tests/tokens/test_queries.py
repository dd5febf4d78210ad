"""Samples of queries: of the right size, of all parts, and each query as often as any other."""

from __future__ import annotations

import pytest
import torch

from tocache.tokens import sample_queries


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("tokens", "count"), [(16, 4), (16, 5), (7, 3), (5, 1), (1, 1), (4608, 461)])
def test_one_of_each_stratum_in_order(tokens: int, count: int) -> None:
    drawn = sample_queries(tokens, count, 3, generator=dice())
    assert drawn.shape == (3, count)
    assert drawn.dtype == torch.int64
    edges = torch.arange(count + 1, dtype=torch.float64) * tokens / count
    assert (drawn >= edges[:-1].floor()).all()
    assert (drawn < edges[1:].ceil()).all()
    if tokens > 100:
        assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("tokens", [1, 6, 256])
def test_all_queries_are_a_sample_too(tokens: int) -> None:
    assert sample_queries(tokens, tokens, 2, generator=dice()).tolist() == [list(range(tokens))] * 2


@pytest.mark.parametrize(("tokens", "count"), [(16, 4), (16, 5), (7, 3), (9, 7)])
def test_each_query_is_as_likely_as_any_other(tokens: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    every = torch.arange(tokens)[:, None].expand(tokens, count)  # each number once, one choice after the other
    monkeypatch.setattr(torch, "randint", lambda *_, **__: every)
    drawn = sample_queries(tokens, count, tokens, generator=dice())
    assert torch.bincount(drawn.ravel(), minlength=tokens).tolist() == [count] * tokens
