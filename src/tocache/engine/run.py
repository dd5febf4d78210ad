"""One generation: where it stands, its plan, what it has cached, and what it really computed."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tocache.engine.choose import choose
from tocache.engine.record import Record, Row
from tocache.features import Forecast, PassCache, extrapolate
from tocache.kernels import scatter_rows
from tocache.plan.anatomy import Anatomy, Pass
from tocache.plan.memory import (
    AHEAD,
    KEEP_AGES,
    KEEP_CROSS_MAP,
    KEEP_DRIFT,
    KEEP_MAP,
    KEEP_PAIRS,
    KEEP_SELF_MAP,
    PENDING,
    lifetimes,
)
from tocache.plan.plan import ALL, SKIPPED, Plan

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
    ) -> None:
        self.steps: int | None = None  # known when the first forward comes
        self.step = 0
        self.number = 0  # of the pass within the step
        self.row: Row | None = None  # None outside of a forward that can be followed
        self.record = Record()
        self.refused: set[int] = set()  # sites that cannot be cached in this run
        self.on_choice = on_choice
        self.lost: str | None = None  # why the run cannot be followed any more
        self.new_plan = False  # the plan was made or changed by the newest `enter`
        self._passes = list(passes)
        self._planner = planner
        self._anatomy = anatomy
        self._anatomies: list[Anatomy] = []
        self._caches: list[PassCache] = []
        self._rows: dict[int, int] = {}  # of each pass when it was first seen
        self._outputs: dict[int, Any] = {}  # of passes that a later pass of the step copies
        self._chosen: dict[tuple[int, int], torch.Tensor] = {}  # (pass, scope's last site) → this step's tokens
        self._generator: torch.Generator | None = None
        self._clock = time.perf_counter()

    # ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, shape: Pass, grid: Callable[[], tuple[int, ...] | None]) -> bool:
        """Begins the next pass of this step; False where it cannot be followed, and must compute everything."""
        self.row = None
        assert self.steps is not None
        if self.lost is None and self.step >= self.steps:
            self.give_up(f"more than the {self.steps} steps announced")
        if self.lost is None and self.number >= MAX_PASSES:
            self.give_up(f"{self.number} forwards in one step: no scheduler step was seen between them")
        if self.lost is not None:
            return False
        self._plan_for(self._meaning(shape), grid)
        plan, number = self.plan, self.number
        kept = self._lifetimes
        self.row = Row(
            amounts=plan.amounts[self.step, number].tolist(),
            choices=plan.choices[self.step, number].tolist(),
            features=kept.features[self.step, number].tolist(),
            keep=kept.keep[self.step, number].tolist(),
            computed=[SKIPPED] * len(plan.sites),
        )
        if plan.policy.offload:
            self.row.reads = [i for i, amount in enumerate(self.row.amounts) if amount >= 0]
        return True

    def copied(self) -> Any | None:
        """The output that this pass takes over from an earlier one of the step, if the plan says so."""
        assert self.plan.source is not None
        source = int(self.plan.source[self.step, self.number])
        same = source >= 0 and self._anatomies[source].shape.rows == self._anatomies[self.number].shape.rows
        return self._outputs.get(source) if same else None

    def leave(self, output: Any) -> None:
        """Ends the pass."""
        row, self.row = self.row, None
        if row is None:
            return
        self.cache.drain()
        self.record.computed[self.step, self.number] = row.computed
        assert self.plan.source is not None
        if (self.plan.source[self.step] == self.number).any():
            self._outputs[self.number] = output
        self.number += 1

    def abort(self) -> None:
        """Ends a pass that raised: what it cached is half of it old and half new, so all of it goes."""
        self.row = None
        self.clear()

    def tick(self) -> None:
        """Ends the step."""
        now = time.perf_counter()
        self.record.seconds.append(now - self._clock)
        self.record.held_bytes = sum(cache.held for cache in self._caches)
        self._clock = now
        if self.number:  # a scheduler's step without a forward (a restart, a preview) is not a step of ours
            self.step += 1
            self.record.steps = self.step
        self.number = 0
        self._outputs.clear()
        self._chosen.clear()

    def give_up(self, reason: str) -> None:
        """From here on everything is computed and nothing cached."""
        self.lost = reason
        self.row = None
        self.clear()

    def clear(self) -> None:
        """Frees everything that is cached."""
        for cache in self._caches:
            cache.clear()
        self._outputs.clear()
        self._chosen.clear()

    # ── the plan ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def plan(self) -> Plan:
        assert self.record.plan is not None
        return self.record.plan

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
        anatomy = self._anatomy(replace(shape, grid=grid()))
        anatomies = [*self._anatomies[: self.number], anatomy, *self._anatomies[self.number + 1 :]]
        if not self._anatomies:  # the other passes that were announced are taken to be like the first
            others = (replace(anatomy.shape, name=name, halves=halves) for name, halves in self._passes[1:])
            anatomies += [replace(anatomy, shape=other) for other in others]
        assert self.steps is not None
        self.record.plan = self._planner(anatomies, self.steps)
        self._anatomies = anatomies
        self.new_plan = True
        self._lifetimes = lifetimes(self.record.plan)
        self._how = _forecast_of(self.record.plan)
        # the last site of a scope keeps its ages: all of them are full where that one is, also when block 0 alone is
        self._home = {i: scope[-1] for scope in self.plan.scopes for i in scope}
        while len(self._caches) < len(self._anatomies):
            policy = self.plan.policy
            self._caches.append(
                PassCache(len(self.plan.sites), storage=policy.storage, offload=policy.offload, pending=PENDING)
            )
        self._caches[self.number].clear()

    @property
    def index(self) -> Mapping[str, int]:
        """Where each site stands in the plan's table, by name."""
        return self.plan.anatomies[0].index

    @property
    def halves(self) -> str | None:
        """Which half of this pass's batch is which; None where rows are independent."""
        return self.plan.anatomies[self.number].shape.halves

    def tokens(self, group: str) -> int:
        """Tokens per row of a group in this pass."""
        return self.plan.anatomies[self.number].shape.tokens[group]

    # ── the sites ────────────────────────────────────────────────────────────────────────────────────────────────

    def amount(self, i: int) -> int:
        """How many tokens site `i` computes now: the plan's word, or ALL where nothing valid is cached."""
        assert self.row is not None
        amount = self.row.amounts[i]
        if i in self.refused:
            amount = ALL
        elif amount != ALL and not self._servable(i, amount):
            self.overrule(i)
            return ALL
        self.row.computed[i] = amount
        return amount

    def overrule(self, i: int) -> None:
        """Notes that site `i` computes everything although its plan, and its own cache, said otherwise."""
        assert self.row is not None
        self.record.overruled += 1
        self.row.computed[i] = ALL

    def _servable(self, i: int, amount: int) -> bool:
        if amount == SKIPPED or not self.cache.count(i):
            return False
        if amount == 0:
            return True
        if self.plan.sites[i].pairs and self.cache.pairs[i] is None:
            return False
        return self._shared(i) is not None or (self.row is not None and self.row.choices[i] > 0 and self._scored(i))

    def _scored(self, i: int) -> bool:
        site, index, policy = self.plan.sites[i], self.plan.anatomies[self.number].index, self.plan.policy
        for scores, at in ((policy.self_scores, site.self_map), (policy.cross_scores, site.cross_map)):
            if scores and (at is None or not self.cache.maps[index[at]]):
                return False
        return True

    def _shared(self, i: int) -> torch.Tensor | None:
        number = 0 if self.plan.follows(self.number) else self.number
        return self._chosen.get((number, self._home[i]))

    def choose(self, i: int, x: torch.Tensor, amount: int) -> torch.Tensor:
        """(rows, amount) the tokens that site `i` computes, best first; `x` (rows, tokens, width) is its input."""
        assert self.row is not None
        index = self._shared(i)
        if index is None:
            if self._generator is None:
                self._generator = torch.Generator().manual_seed(self.plan.policy.seed)
            home, count = self._home[i], self.row.choices[i]
            index = choose(self.plan, self.number, i, home, self.cache, x, count, self.step, self._generator)
            self._chosen[self.number, home] = index
            self._age(i, home, index)
        index = index[:, :amount]
        if self.on_choice is not None:
            self.on_choice(self.step, self.number, self.plan.sites[i].name, index)
        return index

    def _age(self, i: int, home: int, index: torch.Tensor) -> None:
        """Notes which tokens are fresh now, and drops what no later choice reads."""
        assert self.row is not None
        keep, cache, site = self.row.keep[i], self.cache, self.plan.sites[i]
        position = self.plan.anatomies[self.number].index
        if keep & KEEP_AGES:
            ages = cache.fresh_at[home]
            if ages is None:
                tokens = self.plan.anatomies[self.number].tokens(site)
                ages = index.new_full((index.shape[0], tokens), cache.full_at[home], dtype=torch.int32)
                cache.fresh_at[home] = ages
            ages.scatter_(1, index, self.step)
        else:
            cache.fresh_at[home] = None
        if not keep & KEEP_DRIFT:
            cache.drift[home] = None
        if site.self_map is not None and not keep & KEEP_SELF_MAP:
            cache.maps[position[site.self_map]] = {}
            self.cache.weigh(position[site.self_map])
        if site.cross_map is not None and not keep & KEEP_CROSS_MAP:
            cache.maps[position[site.cross_map]] = {}
            self.cache.weigh(position[site.cross_map])
        self.cache.weigh(home)

    @property
    def cache(self) -> PassCache:
        return self._caches[self.number]

    def reads_map(self, i: int) -> bool:
        """Whether site `i`'s attention map must be looked at while it runs."""
        return self.row is not None and bool(self.row.keep[i] & KEEP_MAP)

    def keeps_pairs(self, i: int) -> bool:
        """Whether a later step computes single tokens of attention `i`, over keys and values that are kept now."""
        return self.row is not None and bool(self.row.keep[i] & KEEP_PAIRS)

    def note_pairs(self, i: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Keeps the keys and values of attention `i`, (rows, heads, tokens, channels) both."""
        self.cache.pairs[i] = (_alone(keys), _alone(values))

    def note_map(self, i: int, scores: dict[str, torch.Tensor]) -> None:
        """Keeps what site `i`'s attention map says of its tokens, (rows, tokens) float32 by base score."""
        self.cache.maps[i] = scores
        self.cache.weigh(i)

    def write(self, i: int, value: torch.Tensor) -> None:
        """Site `i` has computed everything."""
        assert self.row is not None
        cache = self.cache
        if self.row.keep[i] & KEEP_DRIFT and cache.count(i):
            cache.watch(i, self._home[i], self.step, value.detach(), self._forecast(i))
        if self.row.features[i] and i not in self.refused:
            cache.keep(i, value, self.step)
        if self._home.get(i) == i:
            cache.fresh_at[i], cache.full_at[i] = None, self.step
        self._settle(i)

    def serve(self, i: int) -> torch.Tensor:
        """Site `i` computes nothing: its feature, reused or forecast."""
        value = self._forecast(i)
        self._settle(i)
        return value

    def blend(self, i: int, rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Site `i` has computed some rows (rows, k, width): its feature with those in their places."""
        assert self.row is not None
        reused = self.plan.policy.stale == "reuse"
        value = self._forecast(i)
        if reused and self.cache.hands_out_its_own() and not _is_ours(value):
            value = value.clone()
        value = scatter_rows(value, rows, index)
        if reused and self.row.features[i]:  # a forecast goes through full features alone
            self.cache.amend(i, value, rows, index)
        self._settle(i)
        return value

    def _forecast(self, i: int) -> torch.Tensor:
        return extrapolate(self.cache.features(i), self.step, self._how)

    def _settle(self, i: int) -> None:
        """Frees what no later step reads, fetches what is read next, and takes note of the bytes held."""
        assert self.row is not None
        cache, reads = self.cache, self.row.reads
        cache.trim(i, self.row.features[i])
        if not self.row.keep[i] & KEEP_PAIRS:
            cache.pairs[i] = None
        cache.weigh(i)
        if reads:
            following = bisect_right(reads, i)
            cache.fetch(reads[following : following + AHEAD])
        held = sum(other.held for other in self._caches)
        self.record.peak_bytes = max(self.record.peak_bytes, held)
        held = sum(other.held_device for other in self._caches)
        self.record.peak_device_bytes = max(self.record.peak_device_bytes, held)


def _forecast_of(plan: Plan) -> Forecast | None:
    """What the plan's policy says of stale tokens; None where their features are reused."""
    policy = plan.policy
    if policy.stale == "reuse":
        return None
    return Forecast(policy.stale, policy.order, policy.contraction, policy.ridge, plan.steps)


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` without what shares its memory, such as the queries of a fused projection, which would be kept too."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _is_ours(value: torch.Tensor) -> bool:
    """Whether `value` may be changed in place: autograd may still need it as it was, or have it in inference mode."""
    return torch.is_inference_mode_enabled() or not (torch.is_grad_enabled() or value.is_inference())


def _same(planned: Pass, actual: Pass) -> bool:
    """Whether a plan for one shape serves the other; the grid and the text length may differ."""
    return (
        planned.rows == actual.rows
        and planned.tokens == actual.tokens
        and planned.halves == actual.halves
        and planned.itemsize == actual.itemsize
    )
