"""Pairs of runs for the app: one at a time on its device, told step by step, stopped when nobody looks any more."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from tocache.api import enabled, report
from tocache.errors import OptionError, TocacheError, TocacheWarning, UnknownNameError
from tocache.generation import load_pipeline, makes_videos, psnr
from tocache.generation.draw import FPS
from tocache.generation.result import Frames
from tocache.generation.runs import CACHED, UNCACHED, Progress, Teller, draw_frames, told_cached, told_uncached, warm_up
from tocache.methods import METHODS, Method
from tocache.models.architectures import call_arguments, one_line
from tocache.plan import Plan
from tocache.planning import check_count, check_guidance, check_seed, method_from, plan_pipeline
from tocache.reports import Report

MOST_STEPS, MOST_LETTERS = 250, 1000
_POLL = 0.1  # seconds between two looks at whether anybody still waits

METHODS_SHOWN = tuple(name for name in METHODS if name != "placed")  # `placed` needs steps that were found for a model


@dataclass(frozen=True)
class Wish:
    """What somebody asks for. `interval` and `fresh_ratio` count where the method has them."""

    model: str
    prompt: str
    method: str = "toca"
    interval: int = 3
    fresh_ratio: float = 0.3
    steps: int = 20
    guidance: float | None = None  # None: the pipeline's own
    seed: int = 0


@dataclass(frozen=True)
class Shown:
    """What is there so far. Frames are empty until their run has ended.

    kinds   the steps of each phase that have ended, by kind; `steps` is how many there will be
    error   why there is no more; "" where nothing is wrong
    """

    phase: str = "waiting"
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    steps: int = 0
    uncached: Frames = ()
    cached: Frames = ()
    uncached_seconds: float | None = None
    cached_seconds: float | None = None
    report: Report | None = None
    psnr: float | None = None
    fps: float = FPS
    warnings: tuple[str, ...] = ()
    error: str = ""
    done: bool = False


class Stopped(Exception):
    """Nobody waits for the run any more; raised out of its next step."""


class Studio:
    """Draws for all users of one app on one device.

    models   what may be asked for: demos, folders in diffusers' format or hub ids; the newest one stays loaded

    Raises OptionError where there is no model, and UnknownNameError for a demo that does not exist.
    """

    def __init__(self, models: Sequence[str], *, device: str | None = None, dtype: str | None = None) -> None:
        if not models:
            raise OptionError("models=() is not allowed; name at least one")
        self.models, self.device, self.dtype = tuple(dict.fromkeys(models)), device, dtype
        self._device_lock = threading.Lock()  # one run at a time
        self._load_lock = threading.Lock()
        self._loaded: tuple[str, Any] | None = None
        self._warmed: set[str] = set()
        self.running = 0  # runs on the device at this moment

    def pipeline(self, model: str) -> Any:
        """The pipeline of one of `models`. Raises UnknownNameError for any other, and what loading raises."""
        if model not in self.models:
            raise UnknownNameError.of("model", model, self.models)
        with self._load_lock:
            if self._loaded is None or self._loaded[0] != model:
                self._loaded = None  # frees the other one first
                self._warmed.discard(model)
                self._loaded = (model, load_pipeline(model, device=self.device, dtype=self.dtype))
            return self._loaded[1]

    def plan(self, wish: Wish) -> Plan:
        """What the method would compute; no run is made. Raises OptionError and its kin."""
        return plan_pipeline(self.pipeline(wish.model), chosen(wish), steps=_steps(wish), guidance=wish.guidance)

    def draw(self, wish: Wish, stop: threading.Event) -> Iterator[Shown]:
        """Both runs as they go on; ends with what is `done`, or with an error in words.

        The runs stop at their next step when `stop` is set or the iterator is closed, and the device is free when
        this has returned.
        """
        news: queue.SimpleQueue[Shown] = queue.SimpleQueue()
        ended = threading.Event()
        worker = threading.Thread(target=self._work, args=(wish, stop, news, ended), name="tocache-run", daemon=True)
        worker.start()
        try:
            yield Shown()
            while not (ended.is_set() and news.empty()):
                try:
                    shown = news.get(timeout=_POLL)
                    while not news.empty():  # only the newest state is worth a picture
                        shown = news.get()
                except queue.Empty:
                    continue
                yield shown
        finally:
            stop.set()
            worker.join()

    def _work(self, wish: Wish, stop: threading.Event, news: queue.SimpleQueue[Shown], ended: threading.Event) -> None:
        state = _State(news, stop)
        try:
            while not self._device_lock.acquire(timeout=_POLL):
                state.check()
            try:
                self.running += 1
                self._draw(wish, state)
            finally:
                self.running -= 1
                self._device_lock.release()
        except Stopped:
            state.change(error="stopped")
        except TocacheError as error:
            state.change(error=str(error))
        except Exception as error:  # what torch raises where memory is short, for one
            traceback.print_exc(file=sys.stderr)
            state.change(error=f"{type(error).__name__}: {one_line(error)}")
        finally:
            ended.set()

    def _draw(self, wish: Wish, state: _State) -> None:
        method, steps = chosen(wish), _steps(wish)
        if len(wish.prompt) > MOST_LETTERS:
            raise OptionError(f"a prompt of {len(wish.prompt)} letters is not allowed; allowed: {MOST_LETTERS}")
        seed = check_seed(wish.seed)
        if wish.guidance is not None:
            check_guidance(wish.guidance)
        state.change(phase="loading")
        pipe = self.pipeline(wish.model)
        arguments = call_arguments(pipe, wish.prompt, steps=steps, guidance=wish.guidance)
        draw = partial(draw_frames, pipe, arguments, seed)
        state.change(steps=steps, fps=float(arguments.get("fps", FPS)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TocacheWarning)
            if wish.model not in self._warmed:
                warm_up(pipe, partial(enabled, pipe), method, arguments, state.tell)
                self._warmed.add(wish.model)
            with told_uncached(pipe, state.tell):
                frames, seconds = draw()
            state.change(uncached=frames, uncached_seconds=seconds)
            with enabled(pipe, method), told_cached(pipe, state.tell):
                again, cached_seconds = draw()
                figures = report(pipe)
        said = tuple(dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, TocacheWarning)))
        state.change(
            phase="done",
            cached=again,
            cached_seconds=cached_seconds,
            report=figures,
            psnr=psnr(again, frames),
            warnings=said,
            done=True,
        )

    def is_video(self, model: str) -> bool:
        """Whether a model draws videos."""
        return makes_videos(self.pipeline(model))


class _State:
    """What is shown, as the worker changes it."""

    def __init__(self, news: queue.SimpleQueue[Shown], stop: threading.Event) -> None:
        self._news, self._stop, self._shown = news, stop, Shown()

    @property
    def tell(self) -> Teller:
        """Takes a step that has ended; raises Stopped where nobody waits, which ends the run."""
        return self._tell

    def change(self, **changes: Any) -> None:
        self._shown = replace(self._shown, **changes)
        self._news.put(self._shown)

    def check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _tell(self, progress: Progress) -> None:
        self.check()
        kinds = self._shown.kinds
        if progress.phase in (UNCACHED, CACHED):
            before = kinds.get(progress.phase, ())[: progress.step - 1]
            kinds = kinds | {progress.phase: (*before, progress.kind)}
        self.change(phase=progress.phase, kinds=kinds)


def chosen(wish: Wish) -> Method:
    """The method that a wish names. Raises UnknownNameError and OptionError."""
    if wish.method not in METHODS_SHOWN:
        raise UnknownNameError.of("method", wish.method, METHODS_SHOWN)
    given: dict[str, Any] = {name: getattr(wish, name) for name in options_of(wish.method)}
    method = method_from(wish.method, **given)
    assert isinstance(method, Method)
    return method


def options_of(method: str) -> tuple[str, ...]:
    """Which of the two controls a method has: `interval`, `fresh_ratio`."""
    known = {f.name for f in fields(METHODS[method])} if method in METHODS else set()  # type: ignore[arg-type]
    return tuple(name for name in ("interval", "fresh_ratio") if name in known)


def _steps(wish: Wish) -> int:
    check_count("steps", wish.steps)
    if wish.steps > MOST_STEPS:
        raise OptionError(f"steps={wish.steps} is not allowed; allowed: up to {MOST_STEPS}")
    return wish.steps
