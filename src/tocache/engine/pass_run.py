"""One pass of one step: what its sites are told to do, and what becomes of what they compute."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from tocache.engine.choose import choose
from tocache.engine.deferred import Given, scatters, settled
from tocache.engine.queries import SampledQueries
from tocache.features import PassCache, alone, best_forecasts, extrapolate, extrapolate_each, may_change
from tocache.kernels import scatter_rows
from tocache.plan.memory import (
    AHEAD,
    KEEP_AGES,
    KEEP_CLUSTERS,
    KEEP_CROSS_MAP,
    KEEP_DRIFT,
    KEEP_MAP,
    KEEP_PAIRS,
    KEEP_PROBE,
    KEEP_SELF_MAP,
    Lifetimes,
)
from tocache.plan.plan import ALL, SKIPPED, Plan
from tocache.tokens import cluster_tokens, pass_on

if TYPE_CHECKING:
    from tocache.engine.run import Run

Present = Callable[[Mapping[str, Any]], Mapping[str, torch.Tensor]]
"""From a forward's arguments to (rows, tokens) by group: what is no padding."""


class PassRun:
    """Stands between the sites of a model and the cache of one pass, from its beginning to its end.

    The plan's entries are plain lists here, indexed by site (see Plan and Lifetimes); `computed` is filled as the sites
    run, with what each of them really did.
    """

    def __init__(self, run: Run, plan: Plan, kept: Lifetimes, step: int, number: int, cache: PassCache) -> None:
        self.run, self.plan, self.step, self.number, self.cache = run, plan, step, number, cache
        self.amounts: list[int] = plan.amounts[step, number].tolist()
        self.choices: list[int] = plan.choices[step, number].tolist()
        self.features: list[int] = kept.features[step, number].tolist()
        self.keep: list[int] = kept.keep[step, number].tolist()
        self.computed = [SKIPPED] * len(plan.sites)
        self.arguments: Mapping[str, Any] = {}  # of the transformer's forward
        self.present: Present = lambda arguments: {}
        self.modulation: Mapping[str, torch.Tensor] = {}  # by module, what it gives; known before the run
        self.given: list[Given] = []  # whose rows may not be in their places yet
        self.alike = True  # whether all tokens of a row are modulated alike, so that a norm may be given some of them
        self._queries: torch.Tensor | None = None  # those that are drawn, as soon as one attention has asked
        # the sites that read features which are kept on the host, in order
        self.reads = [i for i, amount in enumerate(self.amounts) if amount >= 0] if plan.policy.offload else []

    def give_up(self, reason: str) -> None:
        """The run cannot be followed any more."""
        self.run.give_up(reason)

    def cannot_read(self, module: str) -> None:
        """Notes that the queries and keys of an attention could not be seen."""
        self.run.record.unread.add(module)

    @property
    def index(self) -> Mapping[str, int]:
        """Where each site stands in the plan's table, by name."""
        return self.plan.anatomies[0].index

    @property
    def kind(self) -> tuple[object, ...]:
        """All that decides what this pass does, beside the plan's policy and what is cached."""
        rows = (tuple(row) for row in (self.amounts, self.choices, self.features, self.keep))
        return (self.number, self.alike, tuple(sorted(self.run.refused)), *rows)

    @property
    def halves(self) -> str | None:
        """Which half of this pass's batch is which; None where rows are independent."""
        return self.plan.anatomies[self.number].shape.halves

    @cached_property
    def padding(self) -> Mapping[str, torch.Tensor]:
        """(rows, tokens) bool by group: False where a token is padding. Some models must be asked for its length."""
        return self.present(self.arguments)

    def tokens(self, group: str) -> int:
        """Tokens per row of a group in this pass."""
        return self.plan.anatomies[self.number].shape.tokens[group]

    # ── the sites ────────────────────────────────────────────────────────────────────────────────────────────────

    def amount(self, i: int) -> int:
        """How many tokens site `i` computes now: the plan's word, or ALL where nothing valid is cached."""
        amount = self.amounts[i]
        if i in self.run.refused:
            amount = ALL
        elif amount != ALL and not self._servable(i, amount):
            self.overrule(i)
            return ALL
        self.computed[i] = amount
        return amount

    def overrule(self, i: int) -> None:
        """Notes that site `i` computes everything although its plan, and its own cache, said otherwise."""
        self.run.record.overruled += 1
        self.computed[i] = ALL

    def _servable(self, i: int, amount: int) -> bool:
        if amount == SKIPPED or not self.cache.count(i):
            return False
        if amount == 0:
            return True
        if self.plan.sites[i].pairs and self.cache.pairs[i] is None:
            return False
        return self._shared(i) is not None or (self.choices[i] > 0 and self._scored(i))

    def _scored(self, i: int) -> bool:
        site, index, policy = self.plan.sites[i], self.plan.anatomies[self.number].index, self.plan.policy
        for scores, at in ((policy.self_scores, site.self_map), (policy.cross_scores, site.cross_map)):
            if scores and (at is None or not self.cache.maps[index[at]]):
                return False
        return True

    def _shared(self, i: int) -> torch.Tensor | None:
        number = 0 if self.plan.follows(self.number) else self.number
        return self.run.chosen.get((number, self.run.home[i]))

    def choose(self, i: int, x: torch.Tensor, amount: int) -> torch.Tensor:
        """(rows, amount) the tokens that site `i` computes, best first; `x` (rows, tokens, width) is its input."""
        index = self._shared(i)
        if index is None:
            home, count = self.run.home[i], self.choices[i]
            present = self.padding.get(self.plan.sites[i].group)
            clusters = self._cluster(home, x) if self.plan.policy.clusters else None
            index = choose(
                self.plan, self.number, i, home, self.cache, x, count, self.step, self.run.draw, clusters, present
            )
            self.run.chosen[self.number, home] = index
            self._age(i, home, index)
        index = index[:, :amount]
        if self.run.on_choice is not None:
            self.run.on_choice(self.step, self.number, self.plan.sites[i].name, index)
        return index

    def _cluster(self, home: int, x: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) the clusters of this scope's tokens, found at its first choice after a full step."""
        clusters = self.cache.clusters[home]
        if clusters is None:
            halves = self.halves is not None and self.plan.policy.together
            sample = x.detach().float().reshape(2, -1, *x.shape[1:]).mean(dim=0) if halves else x.detach()
            count = min(self.plan.policy.clusters, x.shape[1])
            clusters = cluster_tokens(sample, count, generator=self.run.dice).repeat(2 if halves else 1, 1)
            self.cache.clusters[home] = clusters
        self.run.clusters[self.number, home] = clusters
        return clusters

    def _age(self, i: int, home: int, index: torch.Tensor) -> None:
        """Notes which tokens are fresh now, and drops what no later choice reads."""
        keep, cache, site = self.keep[i], self.cache, self.plan.sites[i]
        position = self.plan.anatomies[self.number].index
        if keep & KEEP_AGES:
            ages = cache.fresh_at[home]
            if ages is None:
                tokens = self.plan.anatomies[self.number].tokens(site)
                ages = index.new_zeros((index.shape[0], tokens), dtype=torch.int32) + cache.full_at[home]
                cache.fresh_at[home] = ages
            elif not may_change(ages):
                ages = cache.fresh_at[home] = ages.clone()
            ages.scatter_(1, index, torch.zeros_like(index, dtype=torch.int32) + self.step)
        else:
            cache.fresh_at[home] = None
        if not keep & KEEP_DRIFT:
            cache.drift[home] = None
        if not keep & KEEP_CLUSTERS:
            cache.clusters[home] = None
        if site.self_map is not None and not keep & KEEP_SELF_MAP:
            cache.maps[position[site.self_map]] = {}
            cache.weigh(position[site.self_map])
        if site.cross_map is not None and not keep & KEEP_CROSS_MAP:
            cache.maps[position[site.cross_map]] = {}
            cache.weigh(position[site.cross_map])
        cache.weigh(home)

    def reads_map(self, i: int) -> bool:
        """Whether site `i`'s attention map must be looked at while it runs."""
        return bool(self.keep[i] & KEEP_MAP)

    @property
    def sampled(self) -> SampledQueries | None:
        """How the queries that influence is estimated from are drawn; None where all are read."""
        return self.run.sampled(self.number)

    def queries(self, i: int, group: str, device: torch.device) -> torch.Tensor | None:
        """(queries,) int64 of `group`, from which the influence in self-attention `i` is estimated; None: from all."""
        if self.sampled is None:
            return None
        if self._queries is None:
            self._queries = self.run.sample(self.sampled, self.step, device)
        return self.sampled.of(self._queries, i, group)

    def keeps_pairs(self, i: int) -> bool:
        """Whether a later step computes single tokens of attention `i`, over keys and values that are kept now."""
        return bool(self.keep[i] & KEEP_PAIRS)

    def note_pairs(self, i: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Keeps the keys and values of attention `i`, (rows, heads, tokens, channels) both."""
        self.cache.pairs[i] = (alone(keys), alone(values))

    def note_map(self, i: int, scores: dict[str, torch.Tensor]) -> None:
        """Keeps what site `i`'s attention map says of its tokens, (rows, tokens) float32 by base score."""
        self.cache.maps[i] = scores
        self.cache.weigh(i)

    def write(self, i: int, value: torch.Tensor) -> torch.Tensor:
        """Site `i` has computed everything: `value`, unless a listener gives the model something else."""
        cache = self.cache
        if self.keep[i] & KEEP_DRIFT and cache.count(i):
            cache.watch(i, self.run.home[i], self.step, value.detach(), self._forecast(i))
        if self.keep[i] & KEEP_PROBE:
            if cache.count(i):
                best = best_forecasts(cache.features(i), self.step, self.run.hows, value.detach())
                self.run.best[self.number, self.plan.sites[i].stack] = best
        elif self.features[i] and i not in self.run.refused:
            cache.keep(i, value, self.step)
        if self.run.home.get(i) == i:
            cache.fresh_at[i], cache.full_at[i], cache.clusters[i] = None, self.step, None
        self._settle(i)
        return self._shown(i, value)

    def serve(self, i: int) -> torch.Tensor:
        """Site `i` computes nothing: its feature, reused or forecast."""
        value = self._forecast(i)
        self._settle(i)
        return self._shown(i, value)

    def give(self, i: int) -> Any:
        """`serve`, for a block: gate and residual may be done together with it."""
        value = self.serve(i)
        return Given(value) if self._puts_off(value) else value

    def blend(self, i: int, rows: torch.Tensor, index: torch.Tensor) -> Any:
        """Site `i` has computed some rows (rows, k, width): its feature with those in their places."""
        reused = self.plan.policy.stale == "reuse"
        value = self._forecast(i)
        if self.plan.policy.propagation:
            number = 0 if self.plan.follows(self.number) else self.number
            clusters = self.run.clusters[number, self.run.home[i]]
            value = pass_on(value, rows, index, clusters, self.plan.policy.propagation)
        elif reused and self.cache.hands_out_its_own() and not may_change(value):
            value = value.clone()
        put_off = reused and not self.plan.policy.propagation and self._puts_off(value)
        if not put_off:
            value = scatter_rows(value, rows, index)
        if reused and self.features[i]:  # a forecast goes through full features alone
            if self.plan.policy.propagation:
                self.cache.replace(i, value)
            else:
                self.cache.amend(i, value, rows, index)
        self._settle(i)
        if put_off:
            self.given.append(Given(value, rows, index))
            return self.given[-1]
        return self._shown(i, value)

    def _puts_off(self, value: torch.Tensor) -> bool:
        """Whether what a site gives may wait until its block adds it to the stream."""
        return self.run.on_output is None and self.cache.hands_out_its_own() and scatters(value)

    def end(self) -> None:
        """The forward is over: what the cache was promised is put into it, and nothing waits to be sent."""
        for given in self.given:
            settled(given)
        self.given.clear()
        self.cache.drain()

    def _shown(self, i: int, value: torch.Tensor) -> torch.Tensor:
        """What the model gets of site `i`: `value`, or what a listener puts in its place. The cache keeps `value`."""
        listen = self.run.on_output
        return value if listen is None else listen(self.step, self.number, self.plan.sites[i].name, value)

    def _forecast(self, i: int) -> torch.Tensor:
        best = self.run.best.get((self.number, self.plan.sites[i].stack)) if self.plan.probes else None
        if best is not None:
            return extrapolate_each(self.cache.features(i), self.step, self.run.hows, best)
        return extrapolate(self.cache.features(i), self.step, self.run.how)

    def _settle(self, i: int) -> None:
        """Frees what no later step reads, fetches what is read next, and takes note of the bytes held."""
        cache, reads = self.cache, self.reads
        cache.trim(i, self.features[i])
        if not self.keep[i] & KEEP_PAIRS:
            cache.pairs[i] = None
        cache.weigh(i)
        if reads:
            following = bisect_right(reads, i)
            cache.fetch(reads[following : following + AHEAD])
        self.run.note_bytes()
