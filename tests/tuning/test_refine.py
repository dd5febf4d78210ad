from __future__ import annotations

from tocache.tuning.refine import refine


def distance(goal):
    return lambda full: float(sum((a - b) ** 2 for a, b in zip(full, goal, strict=True)))


def test_it_walks_to_the_best_setting_it_can_reach():
    assert refine((0, 1, 2), 12, distance((0, 5, 9)), trials=200) == (0, 5, 9)


def test_it_asks_for_no_setting_twice_and_for_no_more_than_it_may():
    asked = []

    def loss(full):
        asked.append(full)
        return distance((0, 6, 10))(full)

    best = refine((0, 1, 2), 12, loss, trials=9)
    assert len(asked) == len(set(asked)) == 9
    assert distance((0, 6, 10))(best) == min(distance((0, 6, 10))(full) for full in asked)


def test_the_first_step_stays_full():
    seen = []
    refine((0, 3), 6, lambda full: seen.append(full) or float(sum(full)), trials=50)
    assert all(full[0] == 0 and len(set(full)) == 2 and max(full) < 6 for full in seen)


def test_one_full_step_leaves_nothing_to_move():
    assert refine((0,), 6, lambda full: 1.0, trials=5) == (0,)
