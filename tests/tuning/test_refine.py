from __future__ import annotations

from tocache.tuning.refine import Spots, refine


def distance(full, partial=()):
    goal = Spots(full, partial)
    return lambda spots: float(
        sum((a - b) ** 2 for one, other in zip(spots, goal, strict=True) for a, b in zip(one, other, strict=True))
    )


def test_it_walks_to_the_best_setting_it_can_reach():
    assert refine(Spots((0, 1, 2)), 12, distance((0, 5, 9)), trials=200) == Spots((0, 5, 9))


def test_partial_steps_move_as_well_and_meet_no_full_one():
    seen = []

    def loss(spots):
        seen.append(spots)
        return distance((0, 6), (4, 8))(spots)

    assert refine(Spots((0, 5), (3, 9)), 12, loss, trials=200) == Spots((0, 6), (4, 8))
    assert all(not set(spots.full) & set(spots.partial) for spots in seen)


def test_it_asks_for_no_setting_twice_and_for_no_more_than_it_may():
    asked = []

    def loss(spots):
        asked.append(spots)
        return distance((0, 6, 10))(spots)

    best = refine(Spots((0, 1, 2)), 12, loss, trials=9)
    assert len(asked) == len(set(asked)) == 9
    assert distance((0, 6, 10))(best) == min(distance((0, 6, 10))(spots) for spots in asked)


def test_the_first_step_stays_full():
    seen = []
    refine(Spots((0, 3)), 6, lambda spots: seen.append(spots.full) or float(sum(spots.full)), trials=50)
    assert all(full[0] == 0 and len(set(full)) == 2 and max(full) < 6 for full in seen)


def test_one_full_step_leaves_nothing_to_move():
    assert refine(Spots((0,)), 6, lambda spots: 1.0, trials=5) == Spots((0,))
