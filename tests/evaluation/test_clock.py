"""Seconds of a call and of its loop."""

from __future__ import annotations

import time

import pytest

import tocache
from tocache.evaluation.clock import timed
from tocache.evaluation.prompts import Task, batch_arguments
from tocache.generation.batches import pictures_of


def arguments(case, pipe, **options):
    return batch_arguments(pipe, [Task(case.prompts[0], 0)], {"steps": case.steps, "guidance": None}) | options


def test_the_loop_is_part_of_the_call(case):
    if case.name == "opensora":
        pytest.skip("draws a whole clip, which takes long; test_bench runs it")
    # PixArt's pipeline knows resolutions for the published sizes only
    pipe = case.make(**({"sample_size": 32, "depth": 2} if case.name == "pixart" else {}))
    output, seconds = timed(pipe, arguments(case, pipe))
    assert pictures_of(output).shape[1] == 3
    assert 0 < seconds.loop < seconds.total
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))


def test_what_happens_outside_of_the_loop_is_not_in_it(case, monkeypatch):
    if case.name != "dit":
        pytest.skip("one family will do")
    pipe = case.make()
    decode = pipe.vae.decode

    def slow(*args, **kwargs):
        time.sleep(0.3)
        return decode(*args, **kwargs)

    monkeypatch.setattr(pipe.vae, "decode", slow)
    _, seconds = timed(pipe, arguments(case, pipe))
    assert seconds.total - seconds.loop > 0.3


def test_the_cache_is_followed_through_the_clock(case):
    if case.name != "dit":
        pytest.skip("one family will do")
    pipe = case.make()
    with tocache.enabled(pipe, tocache.FORA(interval=3)):
        timed(pipe, arguments(case, pipe))
        report = tocache.report(pipe)
    assert report.steps == case.steps
    assert report.overruled == 0


def test_a_failing_call_leaves_the_scheduler_as_it_was(case):
    if case.name != "dit":
        pytest.skip("one family will do")
    pipe = case.make()
    with pytest.raises(TypeError):
        timed(pipe, arguments(case, pipe, nonsense=1))
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))
