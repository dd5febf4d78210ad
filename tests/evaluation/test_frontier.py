"""Which settings are measured, and what a curve says between them."""

from __future__ import annotations

import math

import pytest

from tocache.evaluation.frontier import bracket, interpolate, undominated


def test_bracket_takes_the_nearest_on_both_sides():
    ratios = [1.2, 1.9, 2.4, 3.0, 4.1, 6.0]
    assert bracket(ratios, [2]) == [1, 2]
    assert bracket(ratios, [3]) == [3]
    assert bracket(ratios, [2, 3, 5]) == [1, 2, 3, 4, 5]
    assert bracket(ratios[::-1], [2]) == [3, 4]


def test_bracket_at_the_ends_of_what_can_be_reached():
    assert bracket([1.1, 1.3], [2, 5]) == [1]
    assert bracket([2.5, 3.5], [2]) == [0]
    assert bracket([], [2]) == []
    assert bracket([1.995, 3.0], [2]) == [0]  # close enough to be the point itself


def test_interpolation_is_linear_in_the_log_of_the_speedup():
    curve = [(1.0, 0.0), (4.0, 0.8)]
    assert interpolate(curve, 2.0).loss == pytest.approx(0.4)
    assert interpolate(curve[::-1], 2.0).loss == pytest.approx(0.4)
    middle = interpolate([(2.0, 0.1), (3.0, 0.3), (5.0, 0.2)], 4.0)
    assert middle.loss == pytest.approx(0.3 - 0.1 * math.log(4 / 3) / math.log(5 / 3))


def test_interpolation_at_measured_points_and_beyond():
    curve = [(2.0, 0.1), (3.0, 0.3)]
    assert interpolate(curve, 2.0).loss == pytest.approx(0.1)
    assert interpolate(curve, 3.01).loss == pytest.approx(0.3)
    beyond = interpolate(curve, 5.0)
    assert (beyond.loss, beyond.reach) == (None, 3.0)
    assert interpolate(curve, 1.5).loss is None
    assert interpolate([], 2.0).loss is None


def test_of_several_settings_at_one_speedup_the_best_counts():
    assert interpolate([(2.0, 0.5), (2.0, 0.2), (3.0, 0.9)], 2.0).loss == pytest.approx(0.2)


def test_undominated_are_those_that_nothing_beats_in_both():
    points = [(2.0, 0.2), (3.0, 0.2), (2.5, 0.5), (4.0, 0.9), (1.5, 0.1)]
    assert undominated(points) == [4, 1, 3]
    assert undominated([]) == []
