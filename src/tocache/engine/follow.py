"""Follows a pipeline: its calls, its scheduler's ticks, and what is assigned to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from tocache.engine.engine import Engine
from tocache.engine.intercept import Call, Handler, intercept, owner_of, plain_class, release
from tocache.engine.run import clock_of
from tocache.engine.turn import turn_of
from tocache.engine.wiring import Guidance
from tocache.errors import RunError

TRANSFORMERS = ("transformer", "transformer_2")  # what pipelines call them


def transformers_of(pipeline: Any) -> tuple[torch.nn.Module, ...]:
    """The transformers of a pipeline; a second one takes turns with the first."""
    found = (getattr(pipeline, name, None) for name in TRANSFORMERS)
    return tuple(transformer for transformer in found if isinstance(transformer, torch.nn.Module))


class Follower:
    """Turns what happens to one pipeline into the runs and steps of its transformer's engine."""

    def __init__(
        self, pipeline: Any, engine: Engine, claim: Callable[[], None], moved: Callable[[Any], Engine], owner: Any
    ) -> None:
        self.pipeline = pipeline
        self.engine = engine
        self.owner = owner
        self.scheduler: Any = None
        self._claim = claim  # takes a transformer that other pipelines use, too
        self._moved = moved  # makes the engine of a transformer that is assigned later

    def attach(self) -> None:
        """Begins to follow the pipeline and the scheduler it has now."""
        intercept(self.pipeline, {"__call__": self._call, "__setattr__": self._set}, owner=self.owner)
        self._watch(self.pipeline.scheduler)

    def detach(self) -> None:
        """Stops following, and leaves pipeline and scheduler as they were."""
        release(self.pipeline)
        if self.scheduler is not None:
            _unwatch(self.scheduler, self)
        self.scheduler = None

    def _watch(self, scheduler: Any) -> None:
        if self.scheduler is not None:
            _unwatch(self.scheduler, self)
        self.scheduler = scheduler
        if can_follow(scheduler):  # without one, forwards belong to no run and compute everything
            _watch(scheduler, self)

    def _call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            bound = inspect.signature(plain_class(self.pipeline).__call__).bind(self.pipeline, *args, **kwargs)
        except TypeError:
            return call(*args, **kwargs)  # the pipeline's own complaint is the better one
        bound.apply_defaults()
        turn = turn_of(self.engine.transformer)
        with turn:
            if owner_of(self.pipeline) is self.owner and turn_of(self.engine.transformer) is turn:
                return self._draw(bound.arguments, partial(call, *args, **kwargs))
        return self.pipeline(*args, **kwargs)  # what is enabled on it was exchanged while it waited for its turn

    def _draw(self, arguments: Mapping[str, Any], draw: Callable[[], Any]) -> Any:
        """Calls the pipeline, whose transformer no other one has for that time."""
        self._claim()
        engine = self.engine
        if engine.explicit:
            raise RunError("this pipeline was called inside tocache.run(…), which is for hand-written loops; leave it")
        engine.guidance = engine.family.guidance(self.pipeline, arguments)
        try:
            return draw()
        finally:
            engine.guidance = Guidance()
            engine.close()

    def _set(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name, value = args
        before = getattr(self.pipeline, name, None)
        call(*args, **kwargs)
        if name == "scheduler" and value is not self.scheduler:
            self._watch(value)
        elif name in TRANSFORMERS and transformers_of(self.pipeline) not in ((), self.engine.transformers):
            try:
                self.engine = self._moved(transformers_of(self.pipeline)[0])
            except BaseException:  # it cannot be cached: the pipeline keeps the one that it had
                call(name, before)
                raise

    def begin(self) -> None:
        """The scheduler was given its timesteps: a run begins."""
        scheduler = self.scheduler
        # another pipeline draws with the same components
        if owner_of(self.engine.transformer) is not self.owner or turn_of(self.engine.transformer).elsewhere:
            return

        def times() -> Any:
            # img2img begins in the middle, and says so only after set_timesteps
            begin = getattr(scheduler, "begin_index", None)
            return scheduler.timesteps[self._entered() if begin is None else begin :]

        self.engine.open(times)

    def _entered(self) -> int:
        """The step at which the pipeline enters a schedule of which it uses the rest, without telling the scheduler.

        It notes on itself the time of the step that it makes and how many it will make, which must agree.
        """
        noted = vars(self.pipeline)
        if noted.get("_current_timestep") is None:
            return 0
        try:
            times = clock_of(self.scheduler.timesteps)
            at = times.index(float(noted["_current_timestep"]))
        except (TypeError, ValueError, RuntimeError):  # none of these, or times of single frames
            return 0
        return at if len(times) - at == noted.get("_num_timesteps") else 0

    def tick(self) -> None:
        """The scheduler has made a step."""
        if not self.engine.explicit:
            self.engine.tick()


def can_follow(scheduler: Any) -> bool:
    """Whether `scheduler` says when a run begins and when a step ends."""
    return callable(getattr(scheduler, "set_timesteps", None)) and callable(getattr(scheduler, "step", None))


def _watch(scheduler: Any, follower: Follower) -> None:
    """Tells `follower` of the scheduler's runs and steps; several pipelines may share one scheduler."""
    followers: list[Follower] | None = owner_of(scheduler)
    if followers is None:
        followers = []
        begin, tick = _after(followers, Follower.begin), _after(followers, Follower.tick)
        intercept(scheduler, {"set_timesteps": begin, "step": tick}, owner=followers)
    followers.append(follower)


def _unwatch(scheduler: Any, follower: Follower) -> None:
    followers: list[Follower] = owner_of(scheduler) or []
    if follower in followers:
        followers.remove(follower)
    if not followers:
        release(scheduler)


def _after(followers: list[Follower], tell: Callable[[Follower], None]) -> Handler:
    def handler(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = call(*args, **kwargs)
        for follower in list(followers):
            tell(follower)
        return result

    return handler
