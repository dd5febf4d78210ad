"""Draws on Ray: actors that hold a pipeline each, on one machine or many; those that fail or hang are replaced.

Ray Core rather than Ray Data: a batch is written as soon as it is drawn, by the one process that started the run, and a
batch that brings its worker down has to be told from one that stood beside it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tocache.errors import OptionError, SamplingError, TocacheError
from tocache.models.architectures import one_line
from tocache.sampling.batches import Batch
from tocache.sampling.config import differences
from tocache.sampling.drawn import Drawn
from tocache.sampling.patience import Patience
from tocache.sampling.ray_actor import AT_ONCE, Actor
from tocache.sampling.ray_cluster import connect, disconnect, room_for, share_of
from tocache.sampling.workers import Load

DEATHS = 3
"""Workers that may die of one batch; and in a row, times the workers that are wanted, before the run gives up."""
DIED = "the worker that drew it died"
HUNG = "the worker that drew it hung"
_POLL = 1.0  # seconds after which a wait is begun anew, so that Ctrl-C is heard


@dataclass(eq=False)
class _Hand:
    """A worker as this side sees it."""

    actor: Any
    ready: bool = False
    jobs: int = 0
    since: float = 0.0  # when it was given something to do, or gave its last answer
    alone: bool = False  # whether what it draws has brought a worker down, so that it is given nothing beside it


@dataclass(frozen=True)
class _Job:
    """A batch to draw, or with `row` one of its prompts to try."""

    batch: Batch
    row: int | None = None
    alone: bool = False


@dataclass
class _Trial:
    """A batch of which two workers died: its prompts are tried one by one."""

    batch: Batch
    left: set[int]
    found: dict[int, str] = field(default_factory=dict)


class OnRay:
    """Draws on actors of Ray; arguments as in `choose_workers` and `share_of`.

    Raises OptionError where the cluster is not there or has no room, or a worker differs from the others in what bits
    depend on; SamplingError where workers fail or hang again and again.
    """

    def __init__(
        self,
        load: Load,
        *,
        address: str = "auto",
        count: int | None = None,
        gpus: float | None = None,
        device: str | None = None,
        threads: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self.replaced = 0
        self._load = load
        self._about: Mapping[str, Any] | None = None  # of the first worker that was ready
        self._hands: list[_Hand] = []
        self._refs: dict[Any, tuple[_Hand, _Job | None]] = {}  # without a job: about
        self._again: deque[_Job] = deque()
        self._deaths: Counter[int] = Counter()  # of a batch, by its first picture
        self._trials: dict[int, _Trial] = {}
        self._in_a_row = 0  # deaths since a batch was drawn
        self._patience = Patience(timeout)
        self._owns = connect(address)
        try:
            self._share = share_of(gpus, device, threads)
            self._wanted = room_for(self._share) if count is None else count
            for _ in range(self._wanted):
                self._hire()
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        return sum(hand.ready for hand in self._hands)

    def about(self) -> Mapping[str, Any]:
        while self._about is None:
            for _ in self._settle():
                raise AssertionError("nothing is drawn yet")
        return self._about

    def draw(self, batches: Iterable[Batch]) -> Iterator[Drawn]:
        source = iter(batches)
        while True:
            self._hand_out(source)
            if not self._again and not any(job for _, job in self._refs.values()):
                return
            yield from self._settle()
            self._end_hung()

    def finished(self) -> list[Drawn]:
        import ray

        refs = [ref for ref, (_, job) in self._refs.items() if job is not None and job.row is None]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if refs else ([], [])
        found = []
        for ref in ready:
            del self._refs[ref]
            with suppress(Exception):  # a batch that failed is drawn the next time
                found.append(ray.get(ref))
        return found

    def close(self) -> None:
        import ray

        for hand in self._hands:
            ray.kill(hand.actor)
        self._hands.clear()
        self._refs.clear()
        if self._owns:
            disconnect()

    def _hire(self) -> None:
        """Starts a worker; where there is no room for it, it waits until there is."""
        import ray

        actors = ray.remote(Actor).options(
            num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_concurrency=AT_ONCE, max_restarts=0
        )
        hand = _Hand(actors.remote(self._load, self._share.hide_gpus))
        self._hands.append(hand)
        self._refs[hand.actor.about.remote()] = (hand, None)

    def _hand_out(self, source: Iterator[Batch]) -> None:
        """Gives everybody who is ready as much as they may have."""
        for hand in self._hands:
            while hand.ready and not hand.alone and hand.jobs < AT_ONCE:
                # what may bring a worker down goes to one that has nothing else
                fits = next((job for job in self._again if not (job.alone and hand.jobs)), None)
                if fits is not None:
                    self._again.remove(fits)
                elif (batch := next(source, None)) is not None:
                    fits = _Job(batch)
                else:
                    break
                if not hand.jobs:
                    hand.since = time.monotonic()
                hand.jobs, hand.alone = hand.jobs + 1, fits.alone
                call = hand.actor.draw if fits.row is None else hand.actor.why_not
                arguments = (fits.batch,) if fits.row is None else (fits.batch, fits.row)
                self._refs[call.remote(*arguments)] = (hand, fits)

    def _settle(self) -> Iterator[Drawn]:
        """Takes what has come in, and gives on what was drawn."""
        import ray

        ready, _ = ray.wait(list(self._refs), num_returns=1, timeout=_POLL)
        for ref in ready:
            hand, job = self._refs[ref]
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                del self._refs[ref]
                cause = error.cause
                if isinstance(cause, TocacheError):
                    raise cause from error
                self._lose(hand, job, f"{type(cause).__name__}: {one_line(cause)}" if cause else one_line(error))
                continue
            except ray.exceptions.RayError as error:
                del self._refs[ref]
                self._lose(hand, job, one_line(error))
                continue
            del self._refs[ref]
            if job is None:
                self._welcome(hand, answer)
                continue
            took, hand.since = time.monotonic() - hand.since, time.monotonic()
            hand.jobs, hand.alone = hand.jobs - 1, False
            if job.row is None:
                self._patience.note(took)
                self._in_a_row = 0
                self._deaths.pop(job.batch.start, None)
                yield answer
            else:
                self._tried(job, answer)

    def _welcome(self, hand: _Hand, about: Mapping[str, Any]) -> None:
        if self._about is None:
            self._about = about
        elif found := differences(self._about, about):
            raise OptionError(
                f"workers differ in what the bits of their pictures depend on: {'; '.join(found)} "
                "(there: the first one, here: another one)"
            )
        hand.ready = True

    def _end_hung(self) -> None:
        """Takes leave of the workers that have given no answer for too long."""
        import ray

        limit = self._patience.limit
        for hand in [hand for hand in self._hands if hand.jobs and time.monotonic() - hand.since > limit]:
            refs = [ref for ref, (other, _) in self._refs.items() if other is hand]
            if not ray.wait(refs, num_returns=1, timeout=0)[0]:  # else it is this side that was busy
                for ref in refs:
                    self._lose(hand, self._refs.pop(ref)[1], f"a worker gave no answer for {limit:g} s", HUNG)

    def _lose(self, hand: _Hand, job: _Job | None, reason: str, short: str = DIED) -> None:
        """A worker failed: another one is started, and what it had is drawn again."""
        if hand in self._hands:  # else another of its jobs told so
            import ray

            self._hands.remove(hand)
            with suppress(ray.exceptions.RayError):
                ray.kill(hand.actor)
            self._in_a_row += 1
            if self._in_a_row >= DEATHS * self._wanted:
                raise SamplingError(f"{self._in_a_row} workers failed, and nothing was drawn between: {reason}")
            self.replaced += 1
            self._hire()
        if job is None:
            return
        if job.row is not None:
            self._tried(job, short)
            return
        start = job.batch.start
        self._deaths[start] += 1
        # a batch that had a worker to itself is to blame; one that had not may only have stood beside the one that is
        if not job.alone or self._deaths[start] < DEATHS - 1:
            self._again.appendleft(replace(job, alone=True))
        elif self._deaths[start] < DEATHS:
            rows = [row for row in range(len(job.batch)) if row not in job.batch.skipped]
            self._trials[start] = _Trial(job.batch, set(rows))
            self._again.extendleft(_Job(job.batch, row, alone=True) for row in rows)
        else:
            last = start + len(job.batch) - 1
            raise SamplingError(
                f"pictures {start} … {last}: {DEATHS} workers failed at them, and none at one of their prompts alone: "
                f"{reason}"
            )

    def _tried(self, job: _Job, reason: str | None) -> None:
        """One prompt of a trial was tried; after the last one the batch is drawn without those that failed."""
        trial = self._trials[job.batch.start]
        assert job.row is not None
        trial.left.discard(job.row)
        if reason is not None:
            trial.found[job.row] = reason
            self._in_a_row = 0  # that death is explained
        if not trial.left:
            del self._trials[job.batch.start]
            if trial.found:
                self._deaths.pop(job.batch.start)  # they are explained
            skipped = {**trial.batch.skipped, **trial.found}
            self._again.appendleft(_Job(replace(trial.batch, skipped=skipped), alone=True))
