"""Lifetimes against a simulation that walks a plan event by event and frees each thing after its last read."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.plan import ALL, Plan, Policy, flops_scores, lifetimes
from tocache.plan.memory import KEEP_AGES, KEEP_CROSS_MAP, KEEP_MAP, KEEP_SELF_MAP

STEPS = 6


@st.composite
def plans(draw: Any, toy: Any, toy_fused: Any) -> Plan:
    """Valid plans with all that a plan can have: regions, copied passes, shared choices, forecasts."""
    is_fused = draw(st.booleans())
    passes = draw(st.integers(1, 2))
    anatomy = toy_fused(itemsize=2) if is_fused else toy(depth=2)
    if draw(st.booleans()):
        stack = "single" if is_fused else "blocks"
        first = draw(st.integers(0, 1))
        anatomy = anatomy.with_region(stack, first, 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    together = draw(st.booleans())
    order = draw(st.integers(0, 2))
    names = ["influence", "value-norm", "norm", *([] if is_fused else ["entropy"])]
    policy = Policy(
        scores=dict.fromkeys(draw(st.sets(st.sampled_from(names))), 1.0),
        staleness=draw(st.sampled_from([0.0, 0.25])),
        share=draw(st.sampled_from(["sublayer", "block", "step"])),
        together=together,
        stale="polynomial" if order else "reuse",
        order=order,
    )
    fresh = np.full((STEPS, passes, len(anatomy.sites)), ALL, dtype=np.int32)
    full = rng.choice([0.1, 0.3, 0.6])
    for i, site in enumerate(anatomy.sites):
        partial = rng.integers(0, 4, size=(STEPS, passes)) if site.rows else 0
        fresh[:, :, i] = np.where(rng.random((STEPS, passes)) < full, ALL, partial)
    fresh[0] = ALL
    for i, site in enumerate(anatomy.sites):
        if site.kind == "parallel":
            attention = anatomy.index[site.inside[0]]
            fresh[:, :, i] = np.where(fresh[:, :, attention] == ALL, ALL, fresh[:, :, i])
    if together:
        fresh[:, 1:] = fresh[:, :1]
    source = np.full((STEPS, passes), -1, dtype=np.int8)
    source[1:, 1:] = rng.choice([-1, 0], size=(STEPS - 1, passes - 1), p=[0.7, 0.3])
    return Plan((anatomy,) * passes, fresh, policy, "random", source)


class Walk:
    """Runs a plan twice: first to see when everything is read for the last time, then to weigh what is held."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.size: dict[tuple, int] = {}
        self.born: dict[tuple, int] = {}
        self.last: dict[tuple, int] = {}  # what is not in it is never read
        self.newest: dict[tuple, list[tuple]] = defaultdict(list)
        self.events = [(s, p, i) for s in range(plan.steps) for p in range(plan.passes) for i in range(len(plan.sites))]
        self.scope = {i: scope[-1] for scope in plan.scopes for i in scope}
        for now, event in enumerate(self.events):
            self._visit(now, *event)

    def _visit(self, now: int, step: int, p: int, i: int) -> None:
        plan, site = self.plan, self.plan.sites[i]
        anatomy, policy = plan.anatomies[p], plan.policy
        tokens = anatomy.shape.rows * anatomy.shape.tokens[site.group]
        amount, chosen = plan.amounts[step, p, i], plan.choices[step, p, i]
        home = self.scope.get(i)
        if chosen > 0:
            if policy.self_scores:
                self._read(now, ("map", p, anatomy.index[site.self_map]))
            if policy.cross_scores:
                self._read(now, ("map", p, anatomy.index[site.cross_map]))
            if policy.staleness:
                self._read(now, ("ages", p, home))
                if not self.newest["ages", p, home]:
                    self._write(now, ("ages", p, home), 4 * tokens)
        if amount == ALL:
            self._write(now, ("feature", p, i), tokens * site.width * anatomy.shape.itemsize, policy.history)
            scores = {"self-attention": policy.self_scores, "cross-attention": policy.cross_scores}.get(site.kind)
            if scores:
                self._write(now, ("map", p, i), len(scores) * tokens * 4)
            if home == i:  # all are fresh again: nothing to remember
                self.newest["ages", p, i] = []
        elif amount >= 0:
            self._read(now, ("feature", p, i))

    def _write(self, now: int, key: tuple, size: int, history: int = 1) -> None:
        thing = (*key, now)
        self.size[thing], self.born[thing] = size, now
        self.newest[key] = [*self.newest[key], thing][-history:]

    def _read(self, now: int, key: tuple) -> None:
        for thing in self.newest[key]:
            self.last[thing] = now

    def held_after(self, now: int) -> list[tuple]:
        """Everything written by now that is still to be read."""
        return [thing for thing, last in self.last.items() if self.born[thing] <= now < last]

    @property
    def peak(self) -> int:
        return max(sum(self.size[thing] for thing in self.held_after(now)) for now in range(len(self.events)))


@pytest.fixture(scope="module")
def strategy(toy, toy_fused):
    return plans(toy, toy_fused)


@given(data=st.data())
@settings(max_examples=150)
def test_the_peak_is_that_of_a_walk_through_all_events(strategy, data):
    plan = data.draw(strategy)
    assert lifetimes(plan).peak_bytes == Walk(plan).peak


@given(data=st.data())
@settings(max_examples=150)
def test_what_is_kept_after_an_event_is_what_a_later_one_reads(strategy, data):
    plan = data.draw(strategy)
    walk, kept = Walk(plan), lifetimes(plan)
    for now, (step, p, i) in enumerate(walk.events):
        held = {key[:3] for key in walk.held_after(now)}
        features = [key for key in walk.held_after(now) if key[:3] == ("feature", p, i)]
        assert kept.features[step, p, i] == len(features)
        site, index, bits = plan.sites[i], plan.anatomies[p].index, int(kept.keep[step, p, i])
        assert bool(bits & KEEP_MAP) == (("map", p, i) in held)
        chosen = plan.choices[step, p, i] > 0
        self_map = ("map", p, index.get(site.self_map))
        cross_map = ("map", p, index.get(site.cross_map))
        assert bool(bits & KEEP_SELF_MAP) == (chosen and self_map in held)
        assert bool(bits & KEEP_CROSS_MAP) == (chosen and cross_map in held)
        assert bool(bits & KEEP_AGES) == (chosen and ("ages", p, walk.scope.get(i)) in held)


def test_nothing_is_held_where_all_is_computed(toy):
    plan = Plan((toy(),), np.full((3, 1, 9), ALL, dtype=np.int32), Policy({"influence": 1.0}, 0.25), "all")
    kept = lifetimes(plan)
    assert kept.peak_bytes == 0
    assert not kept.features.any()
    assert not kept.keep.any()


def test_one_reused_feature_weighs_rows_times_tokens_times_width(toy):
    fresh = np.full((3, 1, 9), ALL, dtype=np.int32)
    fresh[1, 0, 5] = 0
    plan = Plan((toy(tokens=16, rows=2, itemsize=2),), fresh, Policy({"influence": 1.0}, 0.25), "one")
    assert lifetimes(plan).peak_bytes == 2 * 16 * 8 * 2


def test_scores_cost_a_look_at_each_map_that_is_read_later(toy):
    fresh = np.full((5, 1, 9), ALL, dtype=np.int32)
    fresh[1, 0, 5] = fresh[2, 0, 5] = fresh[4, 0, 5] = 3  # block 1's MLP after the full steps 0 and 3
    fresh[1, 0, 3] = fresh[2, 0, 3] = fresh[4, 0, 3] = 0
    for scores, expected in (
        ({"influence": 1.0}, 2 * 50),
        ({"entropy": 1.0}, 3 * 20),
        ({"norm": 1.0}, 0),
        ({"value-norm": 1.0}, 0),
        ({"key-norm": 1.0}, 0),
    ):
        plan = Plan((toy(),), fresh.copy(), Policy(scores), "some")
        # the cross-attention is computed in all five steps, and in three of them a choice follows
        assert flops_scores(plan) == expected


def test_scores_of_a_sample_cost_as_much_less(toy):
    fresh = np.full((2, 1, 9), ALL, dtype=np.int32)
    fresh[1, 0, 3], fresh[1, 0, 5] = 0, 3
    maps = {"influence": 1.0, "entropy": 1.0}
    for share, looked in ((1.0, 50), (0.25, 50 // 4), (0.01, 50 // 16)):  # at least one of 16 queries
        plan = Plan((toy(),), fresh.copy(), Policy(maps, queries=share), "some")
        assert flops_scores(plan) == looked + 20  # entropies are of each token's own row
        assert lifetimes(plan).peak_bytes == lifetimes(Plan((toy(),), fresh.copy(), Policy(maps), "some")).peak_bytes
