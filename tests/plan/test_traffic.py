"""Bytes of a plan, added up by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocache.plan import ALL, Anatomy, Cost, Pass, Plan, Policy, Site
from tocache.plan.traffic import traffic, traffic_uncached

ROWS, TOKENS, WIDTH, INNER = 2, 6, 8, 32
MLP = Cost(full=1, token=1, weights=2 * WIDTH * INNER, moved=ROWS * 2 * (WIDTH + INNER))
TOKEN = ROWS * WIDTH * 2  # bytes of one token in all rows


def one_mlp(cost: Cost = MLP, *, rows: int = ROWS, tokens: int = TOKENS, outside: int = 0) -> Anatomy:
    """A block that is an MLP, in 2-byte numbers."""
    site = Site("blocks.0.ff", "mlp", "image", "blocks", 0, 1, WIDTH, rows=True)
    shape = Pass(rows, {"image": tokens}, itemsize=2)
    return Anatomy("toy", "Toy", shape, (site,), (cost,), outside=outside)


RANKED = Policy(scores={"norm": 1.0})


def plan_of(anatomy: Anatomy, *amounts: int, policy: Policy = RANKED) -> Plan:
    return Plan((anatomy,), np.array(amounts).reshape(-1, 1, 1), policy, "by hand")


def at(array: np.ndarray) -> list[int]:
    """(steps,) of the only pass and site."""
    return array.reshape(array.shape[0], -1)[:, 0].tolist()


def test_whole_fresh_and_served_by_hand() -> None:
    moved = traffic(plan_of(one_mlp(), ALL, 2, 0))
    assert at(moved.weights) == [1024, 1024, 0]
    added = 2 * TOKENS * TOKEN  # the stream, read and written
    whole = TOKENS * (2 * MLP.moved + 2 * TOKEN) + added + TOKENS * TOKEN
    partial = 2 * (2 * MLP.moved + 2 * TOKEN) + added + 2 * TOKEN
    assert at(moved.activations) == [whole, partial, added]
    ranked = ROWS * TOKENS * 4  # the tokens' score
    assert at(moved.cache) == [0, TOKENS * TOKEN + 2 * TOKEN + ranked, TOKENS * TOKEN]


def test_without_a_cache_every_step_is_a_full_one_and_touches_no_cache() -> None:
    plan = plan_of(one_mlp(outside=1000), ALL, 2, 0)
    uncached, full = traffic_uncached(plan), traffic(plan)
    assert at(uncached.by_site) == [int(full.by_site[0, 0, 0])] * 3
    assert not uncached.cache.any()
    assert at(uncached.outside) == [2000] * 3


def test_a_forecast_reads_what_it_is_made_of_and_writes_it() -> None:
    policy = Policy(stale="taylor", order=1)
    reused, forecast = (traffic(plan_of(one_mlp(), ALL, ALL, 0, policy=p)) for p in (Policy(), policy))
    whole = TOKENS * TOKEN
    assert (forecast.cache - reused.cache)[2, 0, 0] == whole
    assert (forecast.activations - reused.activations)[2, 0, 0] == 2 * whole


def test_eight_bits_are_less_to_keep_and_must_be_unpacked() -> None:
    plan = plan_of(one_mlp(), ALL, 0)
    moved = traffic(plan.stored(storage="int8"))
    stored = ROWS * TOKENS * (WIDTH + 4)
    assert at(moved.cache) == [stored, stored]
    assert at(moved.activations - traffic(plan).activations) == [TOKENS * TOKEN, 2 * TOKENS * TOKEN]


def test_features_on_the_host_are_moved_once_more_on_the_device() -> None:
    plan = plan_of(one_mlp(), ALL, 0)
    assert at(traffic(plan.stored(offload=True)).cache) == [TOKENS * TOKEN, 2 * TOKENS * TOKEN]


def test_a_copied_pass_moves_nothing() -> None:
    anatomy = one_mlp(outside=10)
    source = np.array([[-1, -1], [-1, 0]])
    plan = Plan((anatomy, anatomy), np.full((2, 2, 1), ALL), Policy(), "by hand", source)
    moved = traffic(plan)
    assert moved.by_site[1, 1, 0] == 0
    assert moved.outside.tolist() == [[20, 20], [20, 0]]


def test_the_attention_beside_fresh_tokens_is_read_for_those_alone(toy_fused) -> None:
    anatomy = toy_fused(depth=1, image=12, text=4, itemsize=2)
    names = [site.name for site in anatomy.sites]
    attention, block = names.index("single.0.attn"), names.index("single.0")
    fresh = np.full((3, 1, len(names)), ALL)
    fresh[1:], fresh[1, 0, block] = 0, 5
    plan = Plan((anatomy,), fresh, Policy(scores={"norm": 1.0}), "by hand")
    moved = traffic(plan)
    token = 2 * 8 * 2
    assert moved.cache[1, 0, attention] == 5 * token
    assert moved.activations[1, 0, attention] == 0  # no stream is touched there
    assert moved.by_site[2, 0, attention] == 0
    assert moved.cache[2, 0, block] == 16 * token


def test_keys_and_values_are_read_where_single_tokens_attend() -> None:
    anatomy = one_mlp()
    site = replace(anatomy.sites[0], kind="self-attention", pairs=2 * WIDTH)
    anatomy = replace(anatomy, sites=(site,))
    beside, plain = (traffic(plan_of(a, ALL, 2, 0)) for a in (anatomy, one_mlp()))
    assert at(beside.cache - plain.cache) == [0, anatomy.pair_bytes(site), 0]


def test_a_sample_of_the_queries_is_gathered_and_read_beside_all_keys(toy) -> None:
    fresh = np.array([[[ALL] * 3], [[0, 0, 4]]])
    token, moved = 8 * 4 * 2, {}
    for share in (1.0, 0.25):
        plan = Plan((toy(1),), fresh, Policy({"influence": 1.0}, queries=share), "by hand")
        moved[share] = int((traffic(plan).by_site - traffic(plan, scores=False).by_site).sum())
    assert moved == {1.0: (16 + 16) * token, 0.25: (16 + 3 * 4) * token}


def test_what_is_read_however_few_tokens() -> None:
    shared = replace(MLP, shared=100)
    few, none = (traffic(plan_of(one_mlp(cost), ALL, 1, 0)) for cost in (shared, MLP))
    assert at(few.activations - none.activations) == [200, 200, 0]


@given(st.integers(1, 9), st.integers(1, 33), st.data())
def test_more_fresh_tokens_never_move_less(rows: int, tokens: int, data: st.DataObject) -> None:
    more = data.draw(st.integers(1, tokens))
    fewer = data.draw(st.integers(0, more))
    anatomy = one_mlp(replace(MLP, moved=rows * 7), rows=rows, tokens=tokens)
    most, least = (int(traffic(plan_of(anatomy, ALL, k)).by_site[1, 0, 0]) for k in (more, fewer))
    assert least <= most
    assert least >= 3 * rows * tokens * WIDTH * 2  # the stream and the feature that is added to it


@pytest.mark.parametrize("itemsize", [2, 4])
def test_bytes_follow_the_size_of_a_number(toy, itemsize: int) -> None:
    anatomy = toy(2, itemsize=itemsize)
    costs = tuple(replace(cost, weights=3, moved=5, shared=7) for cost in anatomy.costs)
    plan = Plan((replace(anatomy, costs=costs),), np.full((1, 1, 6), ALL), Policy(), "by hand")
    moved = traffic(plan)
    assert moved.weights.sum() == 6 * 3 * itemsize
    assert moved.by_site.sum() == 6 * (3 + 16 * (5 + 5 * 2 * 8) + 7) * itemsize
