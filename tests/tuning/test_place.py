"""Where full steps are placed, compared with trying all placements."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from tocache.plan import Policy
from tocache.tuning.place import place, place_tokens, served_error, serving_costs, spread_weights

LINE = Policy(stale="taylor", order=1)


def answers(steps: int, width: int = 6, seed: int = 0) -> np.ndarray:
    """(steps, width) answers that drift."""
    return np.random.default_rng(seed).normal(size=(steps, width)).cumsum(axis=0)


def served(m: np.ndarray, p: int, a: int, s: int, line: bool) -> np.ndarray:
    """What step s is given after the full steps p and a."""
    if not line or a == 0:
        return m[a]
    return m[a] + (m[a] - m[p]) * (s - a) / (a - p)


def stretch(m: np.ndarray, weights: np.ndarray, p: int, a: int, b: int, *, line: bool, coherent: bool) -> float:
    """The cost of serving from a up to b, from the answers themselves."""
    errors = [np.sqrt(weights[s]) * (m[s] - served(m, p, a, s, line)) for s in range(a + 1, b)]
    if not errors:
        return 0.0
    return float(np.sum(np.sum(errors, axis=0) ** 2)) if coherent else float(np.sum(np.square(errors)))


@pytest.mark.parametrize("coherent", [True, False])
@pytest.mark.parametrize("policy", [None, LINE])
def test_costs_are_those_of_the_answers_themselves(coherent, policy):
    m, weights = answers(7), np.linspace(2, 0.1, 7)
    costs = serving_costs(m @ m.T, weights, policy, coherent=coherent)
    for a in range(7):
        for p in range(max(1, a)):
            assert np.isinf(costs[p, a, : a + 1]).all()
            for b in range(a + 1, 8):
                expected = stretch(m, weights, p, a, b, line=policy is not None, coherent=coherent)
                assert costs[p, a, b] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("policy", [None, LINE])
def test_no_placement_is_cheaper(count, seed, policy):
    steps = 9
    m, weights = answers(steps, seed=seed), np.random.default_rng(seed).random(steps)
    costs = serving_costs(m @ m.T, weights, policy)
    full, cost = place(costs, count)

    def total(placed: tuple[int, ...]) -> float:
        before = (0, *placed[:-1])
        return sum(costs[p, a, b] for p, (a, b) in zip(before, pairwise((*placed, steps)), strict=True))

    others = [(0, *rest) for rest in combinations(range(1, steps), count - 1)]
    assert len(full) == count
    assert cost == pytest.approx(min(map(total, others)), abs=1e-12)
    assert total(full) == pytest.approx(cost, abs=1e-12)


def test_steps_stand_where_the_answers_change():
    m = np.array([[0.0], [0], [0], [5], [5], [5], [9], [9]])
    assert place(serving_costs(m @ m.T, np.ones(8)), 3) == ((0, 3, 6), 0.0)


def test_a_line_needs_no_full_step_where_the_answers_go_straight():
    m = np.array([[0.0], [1], [2], [3], [4], [4], [4], [4]])
    full, cost = place(serving_costs(m @ m.T, np.ones(8), LINE), 4)
    assert (full, cost) == ((0, 1, 4, 5), pytest.approx(0.0))


def test_no_choice_of_steps_for_fresh_tokens_takes_more_error_away():
    m, weights, full = answers(10), np.random.default_rng(1).random(10), (0, 3, 7)
    gram = m @ m.T
    last = [max(f for f in full if f <= step) for step in range(10)]

    def gain(steps: tuple[int, ...]) -> float:
        return sum(weights[s] * float(np.sum((m[s] - m[last[s]]) ** 2)) for s in steps)

    for count in (0, 1, 3, 7):
        found = place_tokens(gram, weights, full, count)
        others = combinations([step for step in range(10) if step not in full], count)
        assert len(found) == count
        assert gain(found) == pytest.approx(max(map(gain, others)))


def test_the_error_of_reuse_is_a_squared_distance():
    m = answers(5)
    assert served_error(m @ m.T, 1, 4) == pytest.approx(float(np.sum((m[4] - m[1]) ** 2)))


def test_weights_between_measured_ones_are_geometric_means():
    weights = spread_weights({1: 1.0, 3: 100.0}, 5)
    assert weights == pytest.approx([1, 1, 10, 100, 100])
