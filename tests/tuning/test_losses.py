from __future__ import annotations

from math import inf

import pytest
import torch

from tocache.demo.judge import perceptual_distance
from tocache.tuning.losses import JUDGE, PIXELS, distances, figures, loss, measure_for, summary


def pictures(side=128, seed=0):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_judge_looks_at_what_it_knows_and_can_see():
    assert measure_for(pictures(), demo=True) == JUDGE
    assert measure_for(pictures(), demo=False) == PIXELS
    assert measure_for(pictures(64), demo=True) == PIXELS
    assert measure_for(pictures()[:, :, :64], demo=True) == PIXELS


def test_the_judges_distance_is_the_benchmarks():
    one, other = pictures(), pictures(seed=1)
    expected = perceptual_distance(one, other)
    assert distances(JUDGE, one, other) == pytest.approx(expected.tolist(), rel=1e-5)
    assert loss(JUDGE, distances(JUDGE, one, other)) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_the_loss_of_pixels_is_the_square_of_the_mean_root():
    assert loss(PIXELS, [0.01, 0.09]) == pytest.approx(((0.1 + 0.3) / 2) ** 2)


@pytest.mark.parametrize("measure", [JUDGE, PIXELS])
def test_a_picture_that_is_not_finite_is_the_worst_there_is(measure):
    broken = pictures()
    broken[1, 0, 5, 5] = torch.nan
    assert loss(measure, distances(measure, broken, pictures(seed=1))) == inf


def test_equal_pictures_lose_nothing_and_small_ones_have_no_ssim():
    same = figures(pictures(16), pictures(16), PIXELS)
    assert summary(PIXELS, same) == pytest.approx({"loss": 0.0, "mse": 0.0, "1 - ssim": 0.0})
    assert set(figures(pictures(8), pictures(8), PIXELS)) == {"distance", "mse"}
