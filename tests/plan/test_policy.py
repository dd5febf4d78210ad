"""What a policy refuses, and what it asks of the maps and the cache."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError, PlanFileError
from tocache.plan import Policy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": {"influenza": 1.0}}, "unknown base score 'influenza'; allowed: influence, value-norm"),
        ({"share": "model"}, r"share='model' is not allowed; allowed: sublayer \| block \| step"),
        ({"stale": "guess"}, r"stale='guess' is not allowed; allowed: reuse \| polynomial"),
        ({"interval": 0}, "interval=0 is not allowed"),
        ({"spread_size": 0}, "spread_size=0 is not allowed"),
        ({"order": 5}, r"order=5 is not allowed; allowed: 0 … 4"),
        ({"order": -1}, "order=-1 is not allowed"),
        ({"staleness": -0.5}, r"staleness=-0\.5 is not allowed"),
        ({"spread": -1.0}, r"spread=-1\.0 is not allowed"),
        ({"scores": {"influence": 1.0}, "queries": 0}, "queries=0 is not allowed; allowed: above 0, up to 1"),
        ({"scores": {"influence": 1.0}, "queries": 1.5}, r"queries=1\.5 is not allowed"),
        ({"scores": {"influence": 1.0}, "queries": True}, "queries=True is not allowed"),
        ({"scores": {"entropy": 1.0}, "queries": 0.5}, "queries=0.5 is not allowed; allowed: 1 without the score infl"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_the_range(options, message):
    with pytest.raises(OptionError, match=message):
        Policy(**options)


def test_scores_are_sorted_by_the_map_that_they_read():
    policy = Policy(scores={"entropy": 0.5, "value-norm": 1.0, "norm": 1.0, "influence": 0.5, "random": 0.1})
    assert policy.self_scores == ("value-norm", "influence")
    assert policy.cross_scores == ("entropy",)


def test_the_history_is_one_longer_than_the_order():
    assert [Policy(stale="polynomial", order=order).history for order in range(3)] == [1, 2, 3]


def test_a_dictionary_and_back():
    policy = Policy({"norm": 2.0}, 0.5, 3, 0.1, 4, "block", together=True, stale="polynomial", order=2, seed=7)
    assert Policy.from_dict(policy.to_dict()) == policy
    sampled = Policy({"influence": 1.0}, queries=0.1)
    assert Policy.from_dict(sampled.to_dict()) == sampled


def test_a_policy_of_a_file_from_before_there_were_samples_is_exact():
    data = Policy({"influence": 1.0}).to_dict()
    del data["queries"]
    assert Policy.from_dict(data).queries == 1


def test_a_share_of_the_queries_is_a_number_of_them_and_never_none():
    tenth, exact = Policy({"influence": 1.0}, queries=0.1), Policy()
    assert [tenth.queries_of(tokens) for tokens in (0, 1, 4, 14, 256, 4608)] == [0, 1, 1, 1, 26, 461]
    assert [exact.queries_of(tokens) for tokens in (0, 1, 4608)] == [0, 1, 4608]


def test_an_unknown_option_in_a_file():
    with pytest.raises(PlanFileError, match="policy: unknown option 'temperature'"):
        Policy.from_dict(Policy().to_dict() | {"temperature": 1.0})
