"""Where full steps are placed, compared with trying all placements."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from tocache.tuning.place import place, reuse_costs, spread_weights


def answers(steps: int, width: int = 6, seed: int = 0) -> np.ndarray:
    """(steps, width) answers that drift."""
    return np.random.default_rng(seed).normal(size=(steps, width)).cumsum(axis=0)


def stretch(m: np.ndarray, weights: np.ndarray, a: int, b: int, coherent: bool) -> float:
    """The cost of reusing step a up to b, from the answers themselves."""
    errors = [np.sqrt(weights[s]) * (m[s] - m[a]) for s in range(a + 1, b)]
    if not errors:
        return 0.0
    return float(np.sum(np.sum(errors, axis=0) ** 2)) if coherent else float(np.sum(np.square(errors)))


@pytest.mark.parametrize("coherent", [True, False])
def test_costs_are_those_of_the_answers_themselves(coherent):
    m, weights = answers(7), np.linspace(2, 0.1, 7)
    costs = reuse_costs(m @ m.T, weights, coherent=coherent)
    for a in range(7):
        assert np.isinf(costs[a, : a + 1]).all()
        for b in range(a + 1, 8):
            assert costs[a, b] == pytest.approx(stretch(m, weights, a, b, coherent), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_no_placement_is_cheaper(count, seed):
    steps = 9
    m, weights = answers(steps, seed=seed), np.random.default_rng(seed).random(steps)
    costs = reuse_costs(m @ m.T, weights)
    full, cost = place(costs, count)
    others = [(0, *rest) for rest in combinations(range(1, steps), count - 1)]
    totals = {steps_: sum(costs[a, b] for a, b in pairwise((*steps_, steps))) for steps_ in others}
    assert len(full) == count
    assert cost == pytest.approx(min(totals.values()), abs=1e-12)
    assert totals[full] == pytest.approx(cost, abs=1e-12)


def test_steps_stand_where_the_answers_change():
    m = np.array([[0.0], [0], [0], [5], [5], [5], [9], [9]])
    assert place(reuse_costs(m @ m.T, np.ones(8)), 3) == ((0, 3, 6), 0.0)


def test_weights_between_measured_ones_are_geometric_means():
    weights = spread_weights({1: 1.0, 3: 100.0}, 5)
    assert weights == pytest.approx([1, 1, 10, 100, 100])
