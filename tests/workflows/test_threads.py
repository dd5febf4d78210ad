"""Pipelines in threads that share one transformer: they take turns, and no run sees another one's cache."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import tocache
from tocache.engine.turn import _turns, turn_of

from .pipelines import class_pipe, draw_class
from .test_sharing import METHODS, pair, touched

SECONDS = 60.0  # nothing here takes as long: a test that waits for it fails


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """What the tasks give, each in a thread of its own; they begin together."""
    gate = threading.Barrier(len(tasks))

    def begin(task: Callable[[], Any]) -> Any:
        gate.wait(SECONDS)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [found.result(SECONDS) for found in [pool.submit(begin, task) for task in tasks]]


class Halted:
    """A callback that stops a run after step 4 until `go_on` is set."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, record: Any) -> None:
        if record.steps == 4:
            self.reached.set()
            assert self.go_on.wait(SECONDS)


@pytest.mark.parametrize("same_scheduler", [True, False])
def test_each_draws_what_it_draws_alone(same_scheduler: bool) -> None:
    pipes = pair(same_scheduler)
    for pipe, method in zip(pipes, METHODS, strict=True):
        tocache.enable(pipe, method)
    alone = [draw_class(pipe) for pipe in pipes]
    plans = [tocache.report(pipe).plan for pipe in pipes]
    for _ in range(3):
        together = at_once(*(lambda pipe=pipe: draw_class(pipe) for pipe in pipes))
        assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
        assert [tocache.report(pipe).plan for pipe in pipes] == plans
        assert [tocache.report(pipe).overruled for pipe in pipes] == [0, 0]
    tocache.disable(pipes[0].transformer)
    assert touched(*pipes) == []


def test_one_pipeline_that_several_threads_call_draws_one_picture_after_the_other() -> None:
    pipe = class_pipe()
    tocache.enable(pipe, METHODS[1])
    alone = [draw_class(pipe, seeds=(n,)) for n in range(3)]
    together = at_once(*(lambda n=n: draw_class(pipe, seeds=(n,)) for n in range(3)))
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_an_exception_hands_the_turn_on() -> None:
    one, two = pair(same_scheduler=False)
    for pipe, method in zip((one, two), METHODS, strict=True):
        tocache.enable(pipe, method)
    expected = draw_class(two)

    def fails() -> None:
        with tocache.watch(one, lambda record: 1 / 0), pytest.raises(ZeroDivisionError):
            draw_class(one)

    assert torch.equal(at_once(fails, lambda: draw_class(two))[1], expected)


def test_a_run_by_hand_is_waited_for() -> None:
    one, two = pair(same_scheduler=False)
    for pipe, method in zip((one, two), METHODS, strict=True):
        tocache.enable(pipe, method)
    expected = draw_class(two)
    drawn: list[torch.Tensor] = []
    other = threading.Thread(target=lambda: drawn.append(draw_class(two)))
    with tocache.run(one, timesteps=9, cfg=None) as run:
        other.start()
        for _ in range(9):
            with torch.no_grad():
                one.transformer(torch.zeros(1, 4, 8, 8), timestep=torch.tensor([500]), class_labels=torch.tensor([3]))
            run.step()
        assert not drawn
    other.join(SECONDS)
    assert tocache.report(one).steps == 9
    assert torch.equal(drawn[0], expected)


def test_a_pipeline_without_a_cache_of_its_own_computes_everything_beside_a_run() -> None:
    """It does not wait, as nothing of tocache sees its call; what it does is in no run."""
    one, two = pair(same_scheduler=False)
    plain = draw_class(two)
    tocache.enable(one, METHODS[1])
    cached = draw_class(one)
    halted = Halted()
    with tocache.watch(one, halted), ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw_class, one)
        assert halted.reached.wait(SECONDS)
        with pytest.warns(tocache.TocacheWarning, match="another thread than the one that began its run"):
            assert torch.equal(draw_class(two), plain)
        halted.go_on.set()
        assert torch.equal(drawing.result(SECONDS), cached)
    assert tocache.report(one).steps == tocache.report(one).plan.steps


@pytest.mark.parametrize("change", [tocache.disable, lambda pipe: tocache.enable(pipe, METHODS[0])])
def test_what_is_drawn_is_finished_before_the_cache_changes(change: Callable[[Any], None]) -> None:
    pipe = class_pipe()
    tocache.enable(pipe, METHODS[1])
    cached = draw_class(pipe)
    halted = Halted()
    with ThreadPoolExecutor(2) as pool:
        with tocache.watch(pipe, halted):
            drawing = pool.submit(draw_class, pipe)
            assert halted.reached.wait(SECONDS)
        changing = pool.submit(change, pipe)
        with pytest.raises(TimeoutError):
            changing.result(0.1)
        halted.go_on.set()
        assert torch.equal(drawing.result(SECONDS), cached)
        changing.result(SECONDS)
    reference = class_pipe()
    if change is not tocache.disable:
        change(reference)
    assert torch.equal(draw_class(pipe), draw_class(reference))


def test_a_call_that_waited_while_the_cache_was_taken_off_draws_without_one() -> None:
    pipe = class_pipe()
    plain = draw_class(pipe)
    tocache.enable(pipe, METHODS[1])
    with ThreadPoolExecutor(1) as pool:
        with turn_of(pipe.transformer):
            waiting = pool.submit(draw_class, pipe)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            tocache.disable(pipe)
        assert torch.equal(waiting.result(SECONDS), plain)
    assert touched(pipe) == []


def test_a_run_is_stepped_in_the_thread_that_opened_it() -> None:
    pipe = class_pipe()
    tocache.enable(pipe.transformer, METHODS[0])
    with (
        tocache.run(pipe.transformer, timesteps=9, cfg=None) as run,
        ThreadPoolExecutor(1) as pool,
        pytest.raises(tocache.RunError, match="stay in that one"),
    ):
        pool.submit(run.step).result(SECONDS)


def test_a_generator_that_holds_a_run_may_be_closed_in_another_thread() -> None:
    one, two = pair(same_scheduler=False)
    for pipe, method in zip((one, two), METHODS, strict=True):
        tocache.enable(pipe, method)

    def loop() -> Any:
        with tocache.run(one, timesteps=9, cfg=None):
            yield 1

    opened = loop()
    next(opened)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(opened.close).result(SECONDS)
        assert pool.submit(draw_class, two).result(SECONDS).isfinite().all()


def test_the_turns_of_a_transformer_end_with_it() -> None:
    pipe = class_pipe()
    tocache.enable(pipe, METHODS[0])
    draw_class(pipe)
    before = len(_turns)
    tocache.disable(pipe)
    del pipe
    gc.collect()
    assert len(_turns) < before
