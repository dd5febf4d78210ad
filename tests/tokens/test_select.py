"""The choice against Python's stable sort."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.tokens import select_top


def by_sort(row: list[float], allowed: list[bool], count: int) -> list[int]:
    def key(i: int) -> tuple[bool, float]:
        return (not allowed[i], 0.0) if not allowed[i] else (False, math.inf if math.isnan(row[i]) else -row[i])

    return sorted(range(len(row)), key=key)[:count]  # sorted() is stable


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rows=st.integers(1, 3), tokens=st.integers(1, 40))
def test_the_highest_scores_come_first_and_ties_by_index(data: st.DataObject, rows: int, tokens: int) -> None:
    number = st.sampled_from([0.0, 0.5, -0.5, 1.0, math.inf, -math.inf, math.nan]) | st.floats(-2, 2, width=32)
    score = data.draw(st.lists(st.lists(number, min_size=tokens, max_size=tokens), min_size=rows, max_size=rows))
    flags = st.lists(st.booleans(), min_size=tokens, max_size=tokens)
    mask = data.draw(st.none() | st.lists(flags, min_size=rows, max_size=rows))
    count = data.draw(st.integers(0, tokens))
    chosen = select_top(torch.tensor(score), count, mask=None if mask is None else torch.tensor(mask))
    allowed = [[True] * tokens] * rows if mask is None else mask
    assert chosen.dtype == torch.int64
    assert chosen.shape == (rows, count)
    assert chosen.tolist() == [by_sort(row, flags, count) for row, flags in zip(score, allowed, strict=True)]


@pytest.mark.parametrize("tokens", [17, 1000, 4608])
def test_all_equal_scores_choose_the_first_tokens(tokens: int) -> None:
    chosen = select_top(torch.full((2, tokens), 0.25), tokens // 2)
    assert torch.equal(chosen, torch.arange(tokens // 2).expand(2, -1))


def test_masked_tokens_are_reached_only_after_all_others() -> None:
    score = torch.tensor([[9.0, -math.inf, 8.0, math.nan, 1.0]])
    mask = torch.tensor([[False, True, False, True, True]])
    assert select_top(score, 3, mask=mask).tolist() == [[4, 1, 3]]
    assert select_top(score, 5, mask=mask).tolist() == [[4, 1, 3, 0, 2]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_of_other_dtypes_are_ordered_as_they_are(dtype: torch.dtype) -> None:
    score = torch.tensor([[0.25, 0.5, math.nan, 0.5, -1.0]], dtype=dtype)
    assert select_top(score, 5).tolist() == [[1, 3, 0, 4, 2]]


def test_the_scores_are_left_alone() -> None:
    score = torch.tensor([[math.nan, 1.0]])
    select_top(score, 1, mask=torch.tensor([[True, False]]))
    assert math.isnan(score[0, 0])
    assert score[0, 1] == 1
