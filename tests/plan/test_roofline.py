"""Seconds at the limits of a processor, and which limit binds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocache.errors import OptionError, UnknownNameError
from tocache.plan import ALL, Anatomy, Cost, Pass, Plan, Policy, Site
from tocache.plan.roofline import OUTSIDE, PROCESSORS, UNCACHED, Processor, attaining, predict, processor_named

TEN = Processor("ten FLOPs per byte", 1e4, 1e3, "by hand")


def linear(rows: int, tokens: int, into: int, out: int, *, outside: int = 0) -> Anatomy:
    """A block that is one linear layer, in 2-byte numbers."""
    site = Site("blocks.0.ff", "mlp", "image", "blocks", 0, 1, out, rows=True)
    flops = 2 * into * out
    cost = Cost(rows * tokens * flops, rows * flops, weights=into * out, moved=rows * (into + out))
    return Anatomy("toy", "Toy", Pass(rows, {"image": tokens}, itemsize=2), (site,), (cost,), outside=outside)


def plan_of(anatomy: Anatomy, *amounts: int) -> Plan:
    return Plan((anatomy,), np.array(amounts).reshape(-1, 1, 1), Policy(scores={"norm": 1.0}), "by hand")


@given(st.integers(1, 5), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_a_linear_layer_by_formula(rows: int, tokens: int, into: int, out: int) -> None:
    prediction = predict(plan_of(linear(rows, tokens, into, out), ALL), TEN)
    flops = 2 * rows * tokens * into * out
    # weights; input and output; norm and residual, each read and written; the output as the block adds it
    moved = 2 * (into * out + rows * tokens * (into + out + 5 * out))
    work = prediction.work[UNCACHED]["mlp"]
    assert (work.flops, work.moved) == (flops, moved)
    assert work.seconds == max(flops / 1e4, moved / 1e3)
    assert work.bound == (moved / 1e3 > flops / 1e4)
    assert prediction.by_step.tolist() == prediction.uncached_by_step.tolist()


def test_few_tokens_are_on_the_side_of_the_memory_and_many_on_the_other() -> None:
    few, many = (predict(plan_of(linear(1, tokens, 200, 200), ALL), TEN) for tokens in (3, 500))
    assert few.work[UNCACHED]["mlp"].bound == 1
    assert many.work[UNCACHED]["mlp"].bound == 0


def test_a_run_that_computes_all_takes_as_long_as_the_uncached_one() -> None:
    prediction = predict(plan_of(linear(2, 9, 5, 7, outside=11), ALL, ALL), TEN)
    assert prediction.realised_speedup == prediction.flops_speedup == prediction.realised_over_flops == 1


def test_what_is_outside_takes_its_time_in_every_step() -> None:
    with_, without = (predict(plan_of(linear(2, 9, 5, 7, outside=n), ALL, 2, 0), TEN) for n in (500, 0))
    assert np.allclose(with_.by_step - without.by_step, 2 * 500 / 1e3)
    assert [work[OUTSIDE].bound for work in with_.work.values()] == [1] * 4
    assert with_.realised_over_flops < without.realised_over_flops


def test_what_is_computed_ahead_is_read_in_no_step() -> None:
    anatomy = replace(linear(2, 9, 5, 7, outside=500), ahead=400)
    plan = plan_of(anatomy, ALL, 2, 0)
    ahead, as_ever = (predict(plan, TEN, ahead=one) for one in (True, False))
    for name in ("by_step", "uncached_by_step"):
        assert np.allclose(getattr(as_ever, name) - getattr(ahead, name), 2 * 400 / 1e3)
    assert ahead.realised_over_flops > as_ever.realised_over_flops


def test_kinds_of_steps_are_means_that_add_up_to_the_run() -> None:
    prediction = predict(plan_of(linear(2, 9, 50, 70, outside=30), ALL, 2, 0, 4, ALL), TEN)
    assert prediction.steps == {"full": 2, "partial": 2, "reuse": 1}
    assert list(prediction.work) == [UNCACHED, "full", "partial", "reuse"]
    whole = sum(n * sum(w.seconds for w in prediction.work[kind].values()) for kind, n in prediction.steps.items())
    assert whole == pytest.approx(prediction.by_step.sum())


def test_exact_scores_are_counted_or_not(toy) -> None:
    anatomy = toy(1, itemsize=2)
    plan = Plan((anatomy,), np.array([[[ALL] * 3], [[0, 0, 4]]]), Policy(scores={"influence": 1.0}), "by hand")
    # attention in bytes: 6 tokens' worth; FLOPs bind on a processor whose memory is fast
    fast = Processor("no limit of bytes", 1.0, 1e12, "by hand")
    scored, plain = predict(plan, fast), predict(plan, fast, scores=False)
    assert (scored.by_step - plain.by_step).round(6).tolist() == [50, 0]


def test_slower_products_hide_the_memory() -> None:
    plan = plan_of(linear(1, 300, 64, 64, outside=3000), ALL, 30)
    peak, half = predict(plan, TEN), predict(plan, attaining(TEN, 0.5))
    assert half.by_step.sum() > peak.by_step.sum()
    assert half.realised_over_flops > peak.realised_over_flops
    assert attaining(TEN, 1) is TEN


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(OptionError, match="allowed: a share of the peak"):
        attaining(TEN, share)


def test_names_and_ridges() -> None:
    assert round(PROCESSORS["h100"].ridge) == 295
    assert all("datasheet" in p.source or "paper" in p.source for p in PROCESSORS.values())
    with pytest.raises(UnknownNameError, match="h100"):
        processor_named("h10")


def test_four_byte_numbers_have_other_peaks() -> None:
    anatomy = linear(1, 4, 4, 4)
    anatomy = replace(anatomy, shape=replace(anatomy.shape, itemsize=4))
    with pytest.raises(OptionError, match="bf16 or fp16"):
        predict(plan_of(anatomy, ALL), TEN)
