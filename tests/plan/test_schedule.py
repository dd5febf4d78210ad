"""Which steps are full, against the rules and the lists that were published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocache.models.dit import DDIM50, DDPM250
from tocache.models.flux import FLUX
from tocache.models.pixart import PIXART
from tocache.plan import Cycles, Every, Listed, Sensitive, Site, Weighted


def site(block: int = 1, kind: str = "mlp") -> Site:
    return Site(f"blocks.{block}.x", kind, "image", "blocks", block, 28, 8, rows=True)


def full_steps(schedule, steps: int, block: int = 1, *, countdown: bool = False) -> list[int]:
    at = np.flatnonzero(schedule.full(steps, site(block)))
    return [int(steps - 1 - s if countdown else s) for s in at]


DDIM50_ALL = [49, 44, 40, 36, 30, 27, 24, 21, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]
DDPM250_ALL = [
    *(249, 240, 234, 228, 222, 216, 210, 205, 200, 195, 190, 185, 180, 175, 170, 165, 160, 152, 148, 144, 140, 136),
    *(132, 128, 124, 120, 116, 112, 108, 104, 100, 96, 94, 92, 90, 88, 86, 84, 82, 80, 78, 76, 74, 72, 70, 68, 66),
    *(64, 62, 60, 58, 56, 54, 52, 50, 48, 45, 42, 39, 36, 33, 30, 27, 24, 21, 18, 15, 12, 9, 6, 3, 0),
]


class TestPublishedLists:
    @pytest.mark.parametrize(
        ("schedule", "steps", "everywhere", "first_block_only"),
        [
            (DDIM50.schedule, 50, DDIM50_ALL, [45, 32]),
            (DDPM250.schedule, 250, DDPM250_ALL, [245, 155]),
            (DDIM50.schedule.as_fora(3), 50, [49, *range(48, -1, -3)], []),
        ],
        ids=["ddim50", "ddpm250", "fora3"],
    )
    def test_dit_counts_down(self, schedule, steps, everywhere, first_block_only):
        assert full_steps(schedule, steps, countdown=True) == everywhere
        first = full_steps(schedule, steps, block=0, countdown=True)
        assert first == sorted([*everywhere, *first_block_only], reverse=True)

    def test_pixart_in_20_steps(self):
        assert full_steps(PIXART.schedule, 20) == [0, 6, 9, 12, 15, 18]
        assert full_steps(PIXART.schedule, 20, block=0) == [0, 4, 6, 9, 12, 15, 18]

    def test_fora_for_pixart_in_20_steps(self):
        for block in (0, 1):
            assert full_steps(PIXART.schedule.as_fora(3), 20, block) == [0, 3, 6, 9, 12, 15, 18]

    def test_flux_in_50_steps(self):
        assert full_steps(FLUX.schedule, 50) == [0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46]
        assert full_steps(FLUX.schedule.as_fora(3), 50) == list(range(0, 50, 3))

    def test_cycles_by_kind_as_in_open_sora(self):
        cycles = Cycles(3, {"cross-attention": 2}, warmup=3)
        assert np.flatnonzero(cycles.full(30, site())).tolist() == [0, 1, 2, *range(3, 30, 3)]
        cross = cycles.full(30, site(kind="cross-attention"))
        assert np.flatnonzero(cross).tolist() == [0, 1, 2, 6, 12, 18, 24]
        assert np.flatnonzero(cycles.as_fora(2).full(8, site())).tolist() == [0, 1, 2, 4, 6]

    def test_the_published_interval_takes_these_values_over_ddim50(self):
        """method.md §1: 5 for s = 49 … 46, 4 for 45 … 33, 3 for 32 … 19, 2 for 18 … 0."""
        after = [interval for _, _, interval in published(3, 50, 0.4, countdown=True, sensitive=(0.2, 0.4, 2))]
        assert after == [5] * 4 + [4] * 13 + [3] * 14 + [2] * 19


def published(interval: int, steps: int, weight: float, *, countdown: bool, sensitive: tuple | None):
    """method.md §1 and §2, block by block: (first block full, other blocks full, interval afterwards) of each step."""
    current, rows = interval, []
    for step in range(steps):
        s = steps - 1 - step if countdown else step
        flags = []
        for block in range(2):
            is_full = step == 0 or s % current == 0
            flags.append(is_full)
            if is_full and block == 0:
                sign = 1 if countdown else -1
                divisor = np.float32(1 + sign * weight - sign * 2 * weight * s / steps)
                current = int(np.round(np.float32(interval) / divisor))
                if sensitive and int(sensitive[0] * steps) <= s < int(sensitive[1] * steps):
                    current = sensitive[2]
        rows.append((*flags, current))
    return rows


class TestWeighted:
    @given(
        interval=st.integers(1, 9),
        steps=st.integers(1, 120),
        weight=st.sampled_from([0.0, 0.2, 0.4, 0.6]),
        countdown=st.booleans(),
        window=st.booleans(),
    )
    def test_every_block_decides_by_the_interval_of_its_moment(self, interval, steps, weight, countdown, window):
        sensitive = (0.2, 0.4, 2) if window else None
        schedule = Weighted(interval, weight, countdown, Sensitive(*sensitive) if sensitive else None)
        first, others, _ = zip(
            *published(interval, steps, weight, countdown=countdown, sensitive=sensitive), strict=True
        )
        assert schedule.full(steps, site(0)).tolist() == list(first)
        assert schedule.full(steps, site(1)).tolist() == list(others)
        assert schedule.full(steps, site(5)).tolist() == list(others)

    def test_constant_drops_weight_and_window(self):
        schedule = Weighted(3, 0.4, True, Sensitive(0.2, 0.4, 2)).as_fora(5)
        assert schedule == Weighted(5, 0.0, True, None)


class TestEvery:
    @given(interval=st.integers(1, 9), warmup=st.integers(1, 6), steps=st.integers(1, 80))
    def test_full_steps_follow_the_counter(self, interval, warmup, steps):
        got = full_steps(Every(interval, warmup), steps)
        assert got == [*range(min(warmup, steps)), *range(warmup - 1 + interval, steps, interval)]

    def test_constant_has_one_full_step_to_begin_with(self):
        assert Every(4, warmup=3).as_fora(2) == Every(2, warmup=1)


class TestListed:
    def test_the_first_step_is_always_full_and_later_ones_than_the_run_has_do_not_matter(self):
        assert full_steps(Listed((3, 7)), 6) == [0, 3]
        assert full_steps(Listed((3, 7)), 8) == [0, 3, 7]
        assert full_steps(Listed(()), 4) == [0]
