"""Base scores against plain loops in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tocache.tokens import (
    add_staleness,
    merge_halves,
    score_entropy,
    score_influence,
    score_key_norm,
    score_norm,
    score_random,
    score_similarity,
    score_value_norm,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_length(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in rows])


def length(vector: torch.Tensor) -> float:
    return math.sqrt(sum(v * v for v in vector.tolist()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_influence_is_the_column_sums_at_unit_length(dtype: torch.dtype) -> None:
    sums = normal(3, 7).abs().to(dtype)
    torch.testing.assert_close(score_influence(sums), unit_length(sums.tolist()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_is_raised_by_one_before_it_is_normalised(dtype: torch.dtype) -> None:
    entropy = normal(2, 5).abs().to(dtype)
    expected = unit_length([[1 + e for e in row] for row in entropy.tolist()])
    torch.testing.assert_close(score_entropy(entropy), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_is_the_length_of_each_token(dtype: torch.dtype) -> None:
    x = normal(2, 5, 6).to(dtype)
    torch.testing.assert_close(score_norm(x), unit_length([[length(token) for token in row] for row in x]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_similarity_is_one_minus_the_cosine_with_the_cached_token(dtype: torch.dtype) -> None:
    x, cached = normal(2, 5, 6).to(dtype), normal(2, 5, 6, seed=1).to(dtype)
    angles = [
        [
            1 - sum(a * b for a, b in zip(u.tolist(), v.tolist(), strict=True)) / (length(u) * length(v))
            for u, v in zip(rows, stored, strict=True)
        ]
        for rows, stored in zip(x, cached, strict=True)
    ]
    torch.testing.assert_close(score_similarity(x, cached), unit_length(angles))


def test_similarity_to_itself_is_zero_for_every_token() -> None:
    x = torch.eye(4).unsqueeze(0)
    assert torch.equal(score_similarity(x, x), torch.zeros(1, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_norm_sums_one_minus_the_length_over_heads(dtype: torch.dtype) -> None:
    values = normal(2, 3, 5, 4).to(dtype)
    sums = [[sum(1 - length(values[b, h, n]) for h in range(3)) for n in range(5)] for b in range(2)]
    torch.testing.assert_close(score_value_norm(values), unit_length(sums))


@pytest.mark.parametrize("dtype", DTYPES)
def test_key_norm_averages_the_length_over_heads(dtype: torch.dtype) -> None:
    keys = normal(2, 3, 5, 4).to(dtype)
    means = [[sum(length(keys[b, h, n]) for h in range(3)) / 3 for n in range(5)] for b in range(2)]
    torch.testing.assert_close(score_key_norm(keys), unit_length(means))


def test_a_row_of_zeros_stays_zero() -> None:
    assert torch.equal(score_influence(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_bfloat16_inputs_keep_differences_that_bfloat16_cannot_hold() -> None:
    x = torch.ones(1, 2, 64, dtype=torch.bfloat16)
    x[0, 1, 0] = 1.0078125  # lengths 8 and 8.00098: equal in bfloat16
    first, second = score_norm(x)[0].tolist()
    assert second > first


def test_random_scores_repeat_with_the_seed_and_lie_in_the_unit_interval() -> None:
    draws = [score_random(3, 50, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (3, 50)
    assert 0 <= draws[0].min() < draws[0].max() < 1
    assert not torch.equal(draws[0], score_random(3, 50, generator=torch.Generator().manual_seed(6)))


def test_random_scores_are_drawn_where_the_generator_lives_and_then_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = torch.rand

    def watched(*shape: int, **options: Any) -> torch.Tensor:
        drawn.append(draw(*shape, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "rand", watched)
    score = score_random(2, 3, generator=torch.Generator().manual_seed(0), device="meta")
    assert score.device.type == "meta"
    assert drawn[0].device.type == "cpu"


def test_staleness_adds_its_weight_per_interval_of_age() -> None:
    age = torch.tensor([[0, 1, 3]])
    score = add_staleness(torch.tensor([[0.5, 0.5, 0.5]]), age, weight=0.25, interval=3)
    torch.testing.assert_close(score, torch.tensor([[0.5, 0.5 + 0.25 / 3, 0.75]]))


def test_staleness_of_one_age_equals_that_of_a_full_tensor() -> None:
    score = normal(2, 9)
    ages = torch.full((2, 9), 5)
    one = add_staleness(score, 5, weight=0.25, interval=3)
    torch.testing.assert_close(one, add_staleness(score, ages, weight=0.25, interval=3), rtol=0, atol=1e-7)


def test_staleness_leaves_its_input_alone() -> None:
    score, age = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.int64)
    add_staleness(score, age, weight=0.25, interval=3)
    assert torch.equal(score, torch.ones(1, 2))
    assert torch.equal(age, torch.ones(1, 2, dtype=torch.int64))


def test_staleness_is_not_rounded_to_the_default_dtype() -> None:
    score, age = torch.zeros(1, 1), torch.tensor([[257]])  # bfloat16 has no 257
    torch.set_default_dtype(torch.bfloat16)
    try:
        stale = add_staleness(score, age, weight=1.0, interval=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert stale.item() == 257


def test_every_score_is_float32_whatever_the_default_dtype() -> None:
    x, heads = normal(2, 4, 6).bfloat16(), normal(2, 3, 4, 6).bfloat16()
    torch.set_default_dtype(torch.bfloat16)
    try:
        scores = [
            score_influence(x[..., 0]),
            score_entropy(x[..., 0]),
            score_random(2, 4),
            score_norm(x),
            score_similarity(x, x),
            score_value_norm(heads),
            score_key_norm(heads),
            merge_halves(x[..., 0], how="mean"),
            add_staleness(x[..., 0], torch.ones(2, 4, dtype=torch.int64), weight=0.25, interval=3),
            add_staleness(x[..., 0], 1, weight=0.25, interval=3),
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    assert [score.dtype for score in scores] == [torch.float32] * len(scores)
    assert [tuple(score.shape) for score in scores] == [(2, 4)] * len(scores)


@pytest.mark.parametrize(
    ("how", "expected"), [("sum", [[11.0, 22.0], [33.0, 44.0]]), ("mean", [[5.5, 11], [16.5, 22]])]
)
def test_merged_halves_pair_image_i_with_image_i(how: str, expected: list[list[float]]) -> None:
    first, second = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    merged = merge_halves(torch.cat([first, second]), how=how)  # type: ignore[arg-type]
    assert torch.equal(merged, torch.tensor(expected + expected))


def test_an_odd_number_of_rows_has_no_halves() -> None:
    with pytest.raises(RuntimeError):
        merge_halves(torch.zeros(3, 4), how="mean")


def test_summed_half_entropies_are_the_mean_entropy_plus_log_two() -> None:
    """method.md §2: the halves attend to texts that share no column."""

    def entropy(p: torch.Tensor, weight: float) -> torch.Tensor:
        c = weight * p
        return -(c * torch.log(c + 1e-7)).sum(-1)

    maps = torch.softmax(normal(2, 6, 9), dim=-1)  # one image: its two halves, 6 tokens, 9 words
    merged = merge_halves(entropy(maps, 0.5), how="sum")
    expected = entropy(maps, 1.0).mean(dim=0) + math.log(2)
    torch.testing.assert_close(merged, expected.expand(2, 6), rtol=1e-5, atol=0)
