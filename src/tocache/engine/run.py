"""One generation: where it stands, its plan, and what it really computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch

from tocache.engine.ahead import Ahead
from tocache.engine.choose import Draw
from tocache.engine.pass_run import PassRun
from tocache.engine.queries import Sample, SampledQueries
from tocache.engine.record import Record
from tocache.errors import PlanMismatchError
from tocache.features import Forecast, PassCache
from tocache.plan.anatomy import Anatomy, Pass
from tocache.plan.handover import handed_over
from tocache.plan.memory import PENDING, Lifetimes, lifetimes
from tocache.plan.plan import ALL, Plan
from tocache.tokens import score_random

# More forwards than this in one step mean that nobody tells us when a step ends.
MAX_PASSES = 8

Planner = Callable[[Sequence[Anatomy], int], Plan]


class Run:
    """The state of one generation; made anew for each, so that nothing can leak from one into the next."""

    def __init__(
        self,
        *,
        passes: Sequence[tuple[str, str | None]],
        planner: Planner,
        anatomy: Callable[[Pass], Anatomy],
        on_choice: Callable[[int, int, str, torch.Tensor], None] | None = None,
        on_output: Callable[[int, int, str, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.thread = threading.get_ident()  # forwards and steps of another one are not of this run
        self.steps: int | None = None  # known when the first forward comes, and so are the times of the steps
        self.times: tuple[float, ...] = ()
        self.ahead: Ahead | None = None  # what is computed for all steps at once
        self.step = 0
        self.number = 0  # of the pass within the step
        self.now: PassRun | None = None  # None outside of a forward that can be followed
        self.record = Record()
        self.refused: set[int] = set()  # sites that cannot be cached in this run
        self.on_choice = on_choice
        self.on_output = on_output  # what it returns is what the model gets
        self.lost: str | None = None  # why the run cannot be followed any more
        self.new_plan = False  # the plan was made or changed by the newest `enter`
        self._passes = list(passes)
        self._planner = planner
        self._anatomy = anatomy
        self._anatomies: list[Anatomy] = []
        self._caches: list[PassCache] = []
        self._rows: dict[int, int] = {}  # of each pass when it was first seen
        self._servers: dict[int, object] = {}  # the transformer that has computed what is cached for each pass
        self._ran: dict[int, int] = {}  # pass → the step in which it was made last
        self._outputs: dict[int, Any] = {}  # of passes that a later pass of the step copies
        self.chosen: dict[tuple[int, int], torch.Tensor] = {}  # (pass, scope's last site) → this step's tokens
        self.clusters: dict[tuple[int, int], torch.Tensor] = {}  # likewise: the cluster of each token
        self.best: dict[tuple[int, str], torch.Tensor] = {}  # (pass, stack) → the order of each token's forecast
        self.draw: Draw = self._draw
        self.sample: Sample = SampledQueries.draw
        self._sampled: dict[int, SampledQueries | None] = {}  # of the plan at hand, by pass
        self._clock = time.perf_counter()

    @property
    def here(self) -> bool:
        """Whether this thread is the one that began the run."""
        return self.thread == threading.get_ident()

    # ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, shape: Pass, grid: Callable[[], tuple[int, ...] | None], server: object) -> bool:
        """Begins the next pass of this step; False where it cannot be followed, and must compute everything.

        `server` is the transformer that serves it; another one than before makes the step a full one.
        """
        self.now = None
        assert self.steps is not None
        if self.lost is None and self.step >= self.steps:
            self.give_up(f"more than the {self.steps} steps announced")
        if self.lost is None and self.number >= MAX_PASSES:
            self.give_up(f"{self.number} forwards in one step: no scheduler step was seen between them")
        if self.lost is not None:
            return False
        self._plan_for(self._meaning(shape), grid)
        if self._servers.setdefault(self.number, server) is not server:
            self._hand_over(server)
        plan, number = self.plan, self.number
        missed = slice(self._ran.get(number, self.step) + 1, self.step)
        if (plan.amounts[missed, number] == ALL).any():  # guidance was off when its features should have been renewed
            self._caches[number].clear()
        self._ran[number] = self.step
        self.now = PassRun(self, plan, self.lifetimes, self.step, number, self._caches[number])
        return True

    def copied(self) -> Any | None:
        """The output that this pass takes over from an earlier one of the step, if the plan says so."""
        assert self.plan.source is not None
        source = int(self.plan.source[self.step, self.number])
        same = source >= 0 and self._anatomies[source].shape.rows == self._anatomies[self.number].shape.rows
        return self._outputs.get(source) if same else None

    def modulate(self, rows: Mapping[str, torch.Tensor]) -> None:
        """This pass takes these rows, by module, in place of what the modules would compute."""
        assert self.now is not None
        assert self.ahead is not None
        self.now.modulation = rows
        self.record.modulated += bool(rows)
        self.record.modulation_bytes = max(self.record.modulation_bytes, self.ahead.nbytes)

    def leave(self, output: Any) -> None:
        """Ends the pass."""
        now, self.now = self.now, None
        if now is None:
            return
        now.end()
        self.record.computed[self.step, self.number] = now.computed
        self.record.followed[self.step, self.number] = (self.plan, self.lifetimes)
        assert self.plan.source is not None
        if (self.plan.source[self.step] == self.number).any():
            self._outputs[self.number] = output
        self.number += 1

    def abort(self) -> None:
        """Ends a pass that raised: what it cached is half of it old and half new, so all of it goes."""
        self.now = None
        self.clear()

    def tick(self) -> None:
        """Ends the step."""
        now = time.perf_counter()
        self.record.held_bytes = sum(cache.held for cache in self._caches)
        if self.number:  # a scheduler's step without a forward (a restart, a preview) is not a step of ours
            self.record.seconds.append(now - self._clock)
            self.step += 1
            self.record.steps = self.step
        self._clock = now
        self.number = 0
        self._outputs.clear()
        self.chosen.clear()
        self.clusters.clear()
        self.best.clear()

    def give_up(self, reason: str) -> None:
        """From here on everything is computed and nothing cached."""
        self.lost = reason
        self.now = None
        self.clear()

    def clear(self) -> None:
        """Frees everything that is cached."""
        for cache in self._caches:
            cache.clear()
        self._outputs.clear()
        self.chosen.clear()
        self.clusters.clear()
        self.best.clear()

    def note_bytes(self) -> None:
        """Takes note of the bytes that are held now, if they are the most so far."""
        record, (total, device) = self.record, self.held_bytes()
        record.peak_bytes = max(record.peak_bytes, total)
        record.peak_device_bytes = max(record.peak_device_bytes, device)

    def held_bytes(self) -> tuple[int, int]:
        """Bytes that are cached now for all passes, and those of them that are on the device."""
        return sum(cache.held for cache in self._caches), sum(cache.held_device for cache in self._caches)

    @cached_property
    def dice(self) -> torch.Generator:
        """What random scores are drawn with: one for the whole run."""
        return torch.Generator().manual_seed(self.plan.policy.seed)

    def _draw(self, tokens: int, device: torch.device) -> torch.Tensor:
        """(1, tokens) the next random scores."""
        return score_random(1, tokens, generator=self.dice, device=device)

    # ── the plan ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def plan(self) -> Plan:
        assert self.record.plan is not None
        return self.record.plan

    def sampled(self, number: int) -> SampledQueries | None:
        """How pass `number` draws the queries that influence is estimated from; None where all are read."""
        if number not in self._sampled:
            self._sampled[number] = SampledQueries(self.plan, number) if self.plan.policy.queries < 1 else None
        return self._sampled[number]

    @property
    def lifetimes(self) -> Lifetimes:
        assert self.record.lifetimes is not None
        return self.record.lifetimes

    def _hand_over(self, server: object) -> None:
        """Another transformer serves this pass from now on, for which nothing that is cached is valid."""
        self._servers[self.number] = server
        self._caches[self.number].clear()
        self.record.plan = self.plan.full_at(self.step, self.number)
        self.record.lifetimes = handed_over(self.lifetimes, self.plan, self.step, self.number)

    def _meaning(self, shape: Pass) -> Pass:
        name, halves = self._passes[self.number] if self.number < len(self._passes) else (f"pass {self.number}", None)
        # guidance that is switched off on the way leaves half the rows, and they are no halves any more
        whole = shape.rows % 2 == 0 and self._rows.setdefault(self.number, shape.rows) == shape.rows
        return replace(shape, name=name, halves=halves if whole else None)

    def _plan_for(self, shape: Pass, grid: Callable[[], tuple[int, ...] | None]) -> None:
        """Makes the plan where this pass is new or has changed its shape, and forgets what was cached for it."""
        known = self.number < len(self._anatomies)
        if known and _same(self._anatomies[self.number].shape, shape):
            return
        # times that rise are numbers of steps (`clock_of`), or of a model that counts the other way: no method's window
        falling = self.times if len(self.times) > 1 and self.times[0] > self.times[-1] else ()
        anatomy = replace(self._anatomy(replace(shape, grid=grid())), times=falling)
        anatomies = [*self._anatomies[: self.number], anatomy, *self._anatomies[self.number + 1 :]]
        if not self._anatomies:  # the other passes that were announced are taken to be like the first
            others = (replace(anatomy.shape, name=name, halves=halves) for name, halves in self._passes[1:])
            anatomies += [replace(anatomy, shape=other) for other in others]
        assert self.steps is not None
        if self.step and self.record.lifetimes is not None:
            old, most = self.record.lifetimes.before(self.step), self.record.left
            self.record.left = old if most is None or old.peak_bytes > most.peak_bytes else most
        try:
            self.record.plan = self._planner(anatomies, self.steps)
        except PlanMismatchError:
            if self._anatomies or len(anatomies) == 1:
                raise
            anatomies = anatomies[:1]  # a plan that exists need not fit a guess: a text of another length, say
            self.record.plan = self._planner(anatomies, self.steps)
        self._anatomies = anatomies
        self._sampled.clear()
        self.new_plan = True
        self.record.lifetimes = lifetimes(self.record.plan)
        self.how = _forecast_of(self.record.plan, self.times)
        orders = range(self.record.plan.policy.order + 1)
        self.hows = [replace(self.how, order=order) for order in orders] if self.how is not None else []
        # the last site of a scope keeps its ages: all of them are full where that one is, also when block 0 alone is
        self.home = {i: scope[-1] for scope in self.plan.scopes for i in scope}
        while len(self._caches) < len(self._anatomies):
            policy = self.plan.policy
            self._caches.append(
                PassCache(len(self.plan.sites), storage=policy.storage, offload=policy.offload, pending=PENDING)
            )
        self._caches[self.number].clear()


def clock_of(timesteps: Any) -> tuple[float, ...]:
    """The times of a run's steps as numbers.

    The numbers of the steps where the times are no numbers or do not run one way: a solver that calls the model twice
    in a step may stand still or go back.
    """
    try:
        times = tuple(float(time) for time in (timesteps.tolist() if hasattr(timesteps, "tolist") else timesteps))
    except (TypeError, ValueError):
        return tuple(map(float, range(len(timesteps))))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    one_way = all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)
    return times if one_way else tuple(map(float, range(len(times))))


def _forecast_of(plan: Plan, times: tuple[float, ...]) -> Forecast | None:
    """What the plan's policy says of stale tokens; None where their features are reused."""
    policy = plan.policy
    if policy.stale == "reuse":
        return None
    clock = times if policy.clock == "times" else tuple(map(float, range(plan.steps)))
    return Forecast(policy.stale, policy.order, clock, policy.contraction, policy.ridge, policy.low)


def _same(planned: Pass, actual: Pass) -> bool:
    """Whether a plan for one shape serves the other; the grid and the text length may differ."""
    return (
        planned.rows == actual.rows
        and planned.tokens == actual.tokens
        and planned.halves == actual.halves
        and planned.itemsize == actual.itemsize
    )
