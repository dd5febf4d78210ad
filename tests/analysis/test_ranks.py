"""Rank correlation against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tocache.analysis.ranks import rank_correlation


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_it_is_spearmans(seed, ties):
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(2, 40))
    if ties:
        one, other = one.round(), other.round()
    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_its_ends():
    values = np.array([0.0, 1.0, 5.0, 7.0])
    assert rank_correlation(values, values**3) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert math.isnan(rank_correlation(values, np.ones(4)))
