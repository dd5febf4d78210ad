"""What one pass holds, in bytes."""

from __future__ import annotations

import torch

from tocache.features import Feature, PassCache


def filled() -> PassCache:
    cache = PassCache(3)
    cache.features[1] += [Feature(torch.zeros(2, 5, 8, dtype=torch.bfloat16), step) for step in (0, 3)]
    cache.maps[2] = {"influence": torch.zeros(2, 5), "value-norm": torch.zeros(2, 5)}
    cache.fresh_at[1] = torch.zeros(2, 5, dtype=torch.int32)
    return cache


def test_features_maps_and_ages_are_weighed():
    cache = filled()
    assert [cache.site_bytes(i) for i in range(3)] == [0, 2 * 2 * 5 * 8 * 2 + 2 * 5 * 4, 2 * 2 * 5 * 4]
    assert cache.held_bytes == sum(cache.site_bytes(i) for i in range(3)) == 440


def test_a_cleared_cache_holds_nothing_and_shares_nothing_between_sites():
    cache = filled()
    cache.clear()
    assert cache.held_bytes == 0
    assert cache.full_at == [-1, -1, -1]
    cache.features[0].append(Feature(torch.zeros(1, 1, 1), 0))
    assert cache.features[1:] == [[], []]
