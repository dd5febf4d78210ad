"""When a worker counts as hung."""

from __future__ import annotations

from math import inf

import pytest

from tocache.errors import OptionError
from tocache.sampling import Settings, choose_workers
from tocache.sampling.patience import AT_LEAST, TIMES, Patience


def test_a_limit_that_is_given_stays() -> None:
    patience = Patience(30)
    patience.note(1000)
    assert patience.limit == 30


def test_the_limit_follows_from_the_longest_batch() -> None:
    patience = Patience()
    assert patience.limit == inf  # nothing is known
    patience.note(1)
    assert patience.limit == AT_LEAST
    patience.note(100)
    patience.note(50)
    assert patience.limit == TIMES * 100


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_what_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(OptionError, match=r"timeout=.* is not allowed; allowed: a number of seconds > 0"):
        choose_workers(Settings(), "auto", timeout=timeout)


def test_it_needs_workers_that_can_be_ended() -> None:
    with pytest.raises(OptionError, match="timeout is for Ray"):
        choose_workers(Settings(), timeout=30)
