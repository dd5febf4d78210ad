"""FLOPs of a table, added up by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tocache.plan import ALL, SKIPPED, Cost, Plan, Policy, flops_by_site, flops_planned, flops_uncached


def test_each_amount_costs_what_the_anatomy_says(toy):
    amounts = np.array([[[ALL, ALL, ALL], [0, 3, 16]], [[SKIPPED] * 3, [ALL, 0, SKIPPED]]], dtype=np.int32)
    flops = flops_by_site([toy(1), toy(1)], amounts)
    assert flops.tolist() == [
        [[1007, 100, 320], [7, 15, 320]],
        [[0, 0, 0], [1007, 0, 0]],
    ]


def test_a_whole_run_by_hand(toy):
    fresh = np.full((3, 2, 6), ALL, dtype=np.int32)
    fresh[1:, :, :] = [0, 2, 4, 0, 0, 8]
    source = np.array([[-1, -1], [-1, -1], [-1, 0]], dtype=np.int8)
    plan = Plan((toy(2), toy(2)), fresh, Policy(), "by hand", source)
    full, partial = 2 * (1007 + 100 + 320), 2 * 7 + 2 * 5 + (4 + 8) * 20
    assert flops_planned(plan) == 2 * full + 2 * partial + partial
    assert flops_uncached(plan) == 6 * full


def test_a_region_costs_nothing_and_saves_all_that_it_encloses(toy):
    anatomy = toy(3).with_region("blocks", 0, 1)
    fresh = np.full((4, 1, 10), ALL, dtype=np.int32)
    fresh[[1, 3], 0, 0] = 0
    plan = Plan((anatomy,), fresh, Policy(), "by hand")
    assert flops_uncached(plan) == 4 * 3 * 1427
    assert flops_planned(plan) == (4 * 3 - 2 * 2) * 1427


def test_a_large_run_does_not_overflow(toy):
    anatomy = toy(1)
    anatomy = replace(anatomy, costs=(Cost(10**14, 0), Cost(10**14, 10**12), Cost(10**14, 10**12)))
    plan = Plan((anatomy,), np.full((1000, 1, 3), ALL, dtype=np.int32), Policy(), "by hand")
    assert flops_planned(plan) == 3 * 10**17
