"""What one pass holds, where, in bytes."""

from __future__ import annotations

import pytest
import torch

from tocache.features import PassCache

FEATURE = 2 * 5 * 8 * 2  # bytes of one (2, 5, 8) in bfloat16


def value(number: float = 0.0) -> torch.Tensor:
    return torch.full((2, 5, 8), number, dtype=torch.bfloat16)


def filled(**options: object) -> PassCache:
    cache = PassCache(3, **options)
    for step in (0, 3):
        cache.keep(1, value(step), step)
    cache.maps[2] = {"influence": torch.zeros(2, 5), "value-norm": torch.zeros(2, 5)}
    cache.fresh_at[1] = torch.zeros(2, 5, dtype=torch.int32)
    for i in range(3):
        cache.weigh(i)
    return cache


def test_features_maps_and_ages_are_weighed():
    cache = filled()
    small = 2 * 5 * 4 + 2 * 2 * 5 * 4
    assert cache.held == cache.held_device == 2 * FEATURE + small == 440


def test_a_cleared_cache_holds_nothing_and_shares_nothing_between_sites():
    cache = filled()
    cache.clear()
    assert cache.held == cache.held_device == 0
    assert cache.full_at == [-1, -1, -1]
    cache.keep(0, value(), 0)
    assert [cache.count(i) for i in range(3)] == [1, 0, 0]


def test_the_newest_features_stay_oldest_first():
    cache = filled()
    cache.keep(1, value(7), 7)
    cache.trim(1, 2)
    assert [(feature.step, float(feature.value[0, 0, 0])) for feature in cache.features(1)] == [(3, 3.0), (7, 7.0)]
    assert float(cache.newest(1)[0, 0, 0]) == 7.0


@pytest.mark.parametrize("storage", ["same", "int8", "fp8"])
@pytest.mark.parametrize("offload", [False, True])
def test_fresh_tokens_become_part_of_the_newest_feature(storage, offload):
    cache = PassCache(1, storage=storage, offload=offload)
    cache.keep(0, value(2), 0)
    index, rows = torch.tensor([[1], [4]]), value(9)[:, :1]
    whole = cache.newest(0).clone()
    whole[[0, 1], [1, 4]] = 9
    cache.amend(0, whole, rows, index)
    cache.trim(0, 1)
    torch.testing.assert_close(cache.newest(0), whole, rtol=1e-2, atol=1e-2)
    assert float(cache.newest(0)[0, 0, 0]) == pytest.approx(2, rel=1e-2)


class TestOffload:
    def test_features_are_on_the_host_but_for_those_that_wait_to_be_sent(self):
        cache = PassCache(4, offload=True, pending=2)
        for i in range(4):
            cache.keep(i, value(i), 0)
            cache.weigh(i)
        assert (cache.held, cache.held_device) == (4 * FEATURE, 2 * FEATURE)
        cache.drain()
        assert (cache.held, cache.held_device) == (4 * FEATURE, 0)

    def test_what_is_read_next_is_on_the_device_until_it_was_read(self):
        cache = PassCache(4, offload=True, pending=2)
        for i in range(4):
            cache.keep(i, value(i), 0)
            cache.weigh(i)
        cache.drain()
        cache.fetch([1, 2])
        assert cache.held_device == 2 * FEATURE
        assert float(cache.features(1)[0].value[0, 0, 0]) == 1.0
        cache.trim(1, 1)
        cache.weigh(1)
        assert cache.held_device == FEATURE

    def test_what_was_not_fetched_is_fetched_when_it_is_read(self):
        cache = PassCache(2, offload=True)
        cache.keep(1, value(5), 0)
        assert torch.equal(cache.newest(1), value(5))

    def test_the_host_has_a_copy_of_its_own(self):
        cache, mine = PassCache(1, offload=True), value(5)
        cache.keep(0, mine, 0)
        cache.drain()
        mine.zero_()
        assert torch.equal(cache.newest(0), value(5))
