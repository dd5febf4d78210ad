from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tocache.evaluation.metrics import frechet_distance, frechet_of_moments
from tocache.evaluation.sets.intervals import frechet_influence, interval_around

WIDTH = 4


def draw(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn(count, WIDTH, generator=dice, dtype=torch.float64) @ mixing * scale + shift


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows.mean(dim=0), torch.cov(rows.T)


def test_influence_is_the_derivative_by_a_pictures_weight() -> None:
    rows, real = draw(300, 0, scale=1.3, shift=0.2), moments(draw(2000, 1))
    influence = frechet_influence(rows, *moments(rows), *real)
    assert influence is not None
    assert float(influence.mean()) == pytest.approx(0, abs=1e-12)
    step = 1e-5
    for heavy in (0, 17, 299):
        weights = torch.ones(300, dtype=torch.float64)
        weights[heavy] += step
        weights /= weights.sum()
        mean = weights @ rows
        covariance = ((rows - mean) * weights[:, None]).T @ (rows - mean) * 300 / 299
        moved = frechet_of_moments(mean, covariance, *real)
        derivative = (moved - frechet_distance(rows, draw(2000, 1))) / step * 300
        assert float(influence[heavy]) == pytest.approx(derivative, rel=1e-2, abs=1e-2)


def test_the_interval_is_as_wide_as_distances_of_new_sets_scatter() -> None:
    """Of 200 sets of 500 pictures each: what an interval says of one is what the others show."""
    real = moments(draw(5000, 1))
    distances = torch.tensor([frechet_of_moments(*moments(draw(500, 100 + i, 1.3, 0.2)), *real) for i in range(200)])
    widths = []
    for i in range(5):
        rows = draw(500, 100 + i, 1.3, 0.2)
        influence = frechet_influence(rows, *moments(rows), *real)
        assert influence is not None
        low, high = interval_around(float(distances[i]), influence, seed=i)
        assert low < distances[i] < high
        widths.append(high - low)
    expected = 2 * 1.96 * float(distances.std())
    assert sum(widths) / len(widths) == pytest.approx(expected, rel=0.2)


def test_four_in_five_intervals_and_more_hold_the_distance_of_the_distributions() -> None:
    real = moments(draw(5000, 1))
    truth = frechet_of_moments(*moments(draw(200_000, 7, 1.3, 0.2)), *real)
    held = 0
    for i in range(60):
        rows = draw(500, 300 + i, 1.3, 0.2)
        influence = frechet_influence(rows, *moments(rows), *real)
        assert influence is not None
        low, high = interval_around(frechet_of_moments(*moments(rows), *real), influence, resamples=300, seed=i)
        held += low <= truth <= high
    assert held >= 0.8 * 60  # the distance of finite sets lies above that of their distributions


def test_fewer_pictures_than_features_have_no_influence() -> None:
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, covariance = rows.mean(dim=0), torch.cov(rows.T)
    assert frechet_influence(rows, mean, covariance, torch.zeros(8), torch.eye(8, dtype=torch.float64)) is None
