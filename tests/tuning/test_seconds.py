"""What runs take, as predicted: exact for a machine whose steps take known times, and sane on the one at hand."""

from __future__ import annotations

import pytest

from tocache.evaluation.clock import Seconds
from tocache.evaluation.prompts import Task
from tocache.generation import load_pipeline
from tocache.methods import FORA, Placed, ToCa
from tocache.tuning.draws import Subject
from tocache.tuning.memo import Memo
from tocache.tuning.seconds import Clock, StepCosts, measured_speedups, way_of

STEPS = 12
TOKENS = Placed((0, 3, 6, 9), STEPS, where="sublayers", partial=(1, 2, 4), fresh_ratio=0.3)


@pytest.fixture(scope="module")
def subject(tiny):
    return subject_of(tiny)


def subject_of(model):
    options = {"steps": STEPS, "guidance": None, "size": {}}
    return Subject(load_pipeline(model[0]), Task(207, 0), options, lambda: None)


class Steady(Subject):
    """The same subject on a machine whose steps take known times, and whose pace changes with each uncached run."""

    def __init__(self, subject: Subject) -> None:
        self.__dict__.update(vars(subject))
        self.runs, self.uncached = 0, 0

    def seconds(self, method, steps=None):
        self.runs += 1
        if method is None:
            self.uncached += 1
            return Seconds(None, 0.0, (self.pace,) * STEPS)
        return Seconds(None, 0.0, tuple(self.pace * time for time in self.times(method)))

    @property
    def pace(self):
        return (1.0, 2.0, 4.0)[self.uncached % 3]

    def times(self, method):
        """Of each step, where an uncached one takes 1."""
        plan = self.plan(method)
        tokens = plan.amounts.clip(min=0).sum(axis=(1, 2))
        return [self.step(plan.kind_of_step(s), tokens[s]) for s in range(STEPS)]

    @staticmethod
    def step(kind, tokens):
        return {"full": 1.25, "reuse": 0.125, "partial": 0.25 + tokens / 64}[kind]


def test_predictions_are_exact_where_steps_take_what_their_kind_and_tokens_say(subject):
    steady = Steady(subject)
    clock = Clock(steady, Memo(None, {}))
    clock.calibrate([Placed((0,), 2), TOKENS, FORA(3)])
    assert clock.uncached == pytest.approx(2 * STEPS)  # the median of paces
    for method in (Placed((0, 5, 7), STEPS), TOKENS, FORA(5)):
        assert clock.seconds(method) == pytest.approx(2 * sum(steady.times(method)))
    assert clock.error == pytest.approx(0, abs=1e-9)


def test_a_way_is_timed_once_however_many_steps_are_full(subject):
    steady = Steady(subject)
    clock = Clock(steady, Memo(None, {}))
    clock.calibrate([Placed((0, 2), STEPS), FORA(3)])
    runs = steady.runs
    clock.seconds(Placed((0, 1, 4, 5), STEPS))
    clock.seconds(FORA(7))
    assert steady.runs == runs
    clock.seconds(Placed((0, 2), STEPS, stale="taylor", order=1))
    assert steady.runs > runs


def test_ways_differ_by_what_a_step_does_alone():
    assert way_of(TOKENS) == way_of(Placed((0,), 5, where="sublayers", partial=(3, 4), fresh_ratio=0.7))
    assert way_of(TOKENS) != way_of(Placed((0,), 5, where="sublayers", partial=(3,), scores={"influence": 1.0}))
    assert way_of(ToCa(3)) == way_of(ToCa(5)) != way_of(ToCa(5, 0.3))


def test_a_partial_step_is_a_line_in_its_tokens():
    costs = StepCosts({"full": 1.0, "reuse": 0.1}, (0.2, 0.01))
    assert [costs.of("partial", 30), costs.of("reuse", 0), costs.of("full", 0)] == pytest.approx([0.5, 0.1, 1.0])


def test_on_this_machine_a_reuse_step_is_cheaper_than_a_full_one(deep):
    subject = subject_of(deep)
    memo = Memo(None, {})
    clock = Clock(subject, memo)
    clock.calibrate([Placed((0,), 2)])
    (costs,) = clock.costs.values()
    assert 0 < costs.of("reuse", 0) < costs.of("full", 0)
    assert clock.uncached > 0
    (speedup,) = measured_speedups(subject, memo, [Placed((0,), STEPS)])
    assert speedup > 1
