from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.tuning import Goal, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("2.0s", 2.0), ("800ms", 0.8), ("3", 3.0), (" .5 s ", 0.5), ("1.s", 1.0)]
)
def test_a_latency_is_seconds_or_milliseconds(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "-1s", "2 min", "1e3", "s"])
def test_what_is_no_latency_is_refused_with_what_is(text):
    with pytest.raises(OptionError, match=r"2\.0s or 800ms"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is asked for"),
        ({"speedup": 2.0, "max_loss": 0.1}, "speedup and max_loss is asked for"),
        ({"speedup": 1.0}, "above 1"),
        ({"latency": 0.0}, "above 0"),
        ({"max_loss": float("nan")}, "max_loss=nan"),
        ({"speedup": 2.0, "by": "steps"}, r"seconds \| flops"),
        ({"latency": 2.0, "by": "flops"}, "which is seconds"),
    ],
)
def test_one_goal_at_a_time_and_one_that_can_be(options, message):
    with pytest.raises(OptionError, match=message):
        Goal(**options)


def test_the_greatest_cost_follows_from_the_goal():
    assert Goal(speedup=4.0).limit(10.0) == 2.5
    assert Goal(latency=2.0).limit(10.0) == 2.0
    assert Goal(max_loss=0.1).limit(10.0) == float("inf")
