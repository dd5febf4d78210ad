"""How long what is cached must live, and how many bytes that takes at most; both follow from the plan alone.

Events are the visits of the sites in running order: (step, pass, site). A feature lives from the event that wrote it
to the last one that reads it; so do the rows that an attention map leaves for scoring, and the ages of the tokens.

Features that are kept on the host are on the device for a few events only: from `AHEAD` reads of their pass before
their own, or its first event, to their own; and a copy of what is written until `PENDING` more were written, or the
pass is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tocache.plan.anatomy import CROSS_ATTENTION, PARALLEL, REGION, SELF_ATTENTION, Site
from tocache.plan.plan import ALL, SKIPPED, Plan

# What is still needed after an event, as bits.
KEEP_MAP = 1  # what the site's attention map says of its tokens
KEEP_SELF_MAP = 2  # the self-attention map that this site's choice was scored by
KEEP_CROSS_MAP = 4  # the cross-attention map that it was scored by
KEEP_AGES = 8  # how long each token of the site's scope has been stale
KEEP_CLUSTERS = 64  # which cluster each token of the site's scope belongs to
KEEP_PAIRS = 32  # the keys and values of an attention, to compute single tokens of it
KEEP_PROBE = 128  # nothing: what the site computes is compared with its forecasts, and not kept
KEEP_DRIFT = 16  # how far the tokens of the site's scope were from what would have been served

Bits = NDArray[np.uint8]
Steps = NDArray[np.intp]
AGE_BYTES = 4  # int32
CLUSTER_BYTES = 4  # int32
SCORE_BYTES = 4  # float32
SCALE_BYTES = 4  # float32, one a token where features are kept in 8 bits

AHEAD = 2
"""Features that are fetched from the host before their turn. Two hide a copy behind the sub-layer before it."""
PENDING = 2
"""Features that may wait to be sent to the host; then the model waits for the bus."""


@dataclass(frozen=True)
class Lifetimes:
    """What to keep after each event, and the most bytes that are held after any of them."""

    features: Bits  # (steps, passes, sites) how many of the site's newest features are still read later
    keep: Bits  # (steps, passes, sites) the KEEP_ bits
    held: NDArray[np.int64]  # (passes, events) bytes of each pass after each event, each feature counted once
    held_device: NDArray[np.int64]  # likewise, of what is on the device

    @property
    def peak_bytes(self) -> int:
        """At most, wherever it is kept."""
        return int(self.held.sum(axis=0).max(initial=0))

    @property
    def peak_device_bytes(self) -> int:
        return int(self.held_device.sum(axis=0).max(initial=0))

    def before(self, step: int) -> Lifetimes:
        """With the bytes held in the steps before `step` alone, where a run has left its plan there."""
        events = step * int(np.prod(self.features.shape[1:]))
        return replace(self, held=self.held[:, :events], held_device=self.held_device[:, :events])


@dataclass(frozen=True)
class _Life:
    """Something of `size` bytes, written at event `born` and read for the last time at event `last`."""

    born: int
    last: int
    size: int


class _Ledger:
    """Adds up lives over the events of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.shape = plan.fresh.shape
        self.offload = plan.policy.offload
        self.end = plan.fresh.size + 1
        self.change = np.zeros((plan.passes, self.end), dtype=np.int64)
        self.on_device = np.zeros((plan.passes, self.end), dtype=np.int64)

    def event(self, p: int, site: int) -> NDArray[np.int64]:
        """(steps,) the events of one site in one pass."""
        steps, passes, sites = self.shape
        return np.asarray((np.arange(steps) * passes + p) * sites + site)

    def add(self, life: _Life, *, feature: bool = False) -> None:
        """A life in the cache, on the device unless it is a feature's and those are kept on the host."""
        self._count(self.change, life)
        if not (feature and self.offload):
            self.visit(life)

    def visit(self, life: _Life) -> None:
        """A life on the device of something that is counted in the cache already."""
        self._count(self.on_device, life)

    def _count(self, change: NDArray[np.int64], life: _Life) -> None:
        _, passes, sites = self.shape
        p = life.born // sites % passes
        change[p, life.born] += life.size
        change[p, life.last] -= life.size


# A plan never changes, and every run and report of it asks for the same.
_known: WeakKeyDictionary[Plan, Lifetimes] = WeakKeyDictionary()


def lifetimes(plan: Plan) -> Lifetimes:
    """The lifetimes of everything that running `plan` caches; worked out once for each plan."""
    if plan not in _known:
        _known[plan] = _lifetimes(plan)
    return _known[plan]


def _lifetimes(plan: Plan) -> Lifetimes:
    features = np.zeros(plan.fresh.shape, dtype=np.uint8)
    keep = np.zeros(plan.fresh.shape, dtype=np.uint8)
    ledger = _Ledger(plan)
    for p in range(plan.passes):
        if plan.policy.watches_features:
            for scope in plan.scopes:
                _drifts(plan, p, scope, keep, ledger)
        for i, site in enumerate(plan.sites):
            _features(plan, p, i, features, keep, ledger)
            if site.kind in (SELF_ATTENTION, CROSS_ATTENTION):
                _maps(plan, p, i, site, keep, ledger)
            if site.pairs:
                _pairs(plan, p, i, keep, ledger)
        for scope in plan.scopes:
            if plan.policy.staleness:
                _between_choices(plan, p, scope, KEEP_AGES, AGE_BYTES, keep, ledger)
            if plan.policy.clusters:
                _between_choices(plan, p, scope, KEEP_CLUSTERS, CLUSTER_BYTES, keep, ledger)
    if plan.policy.offload:
        for step, p in np.ndindex(plan.fresh.shape[:2]):
            _visits(plan, step, p, features, ledger)
    return Lifetimes(features, keep, *(np.cumsum(change, axis=1) for change in (ledger.change, ledger.on_device)))


def _features(plan: Plan, p: int, i: int, features: Bits, keep: Bits, ledger: _Ledger) -> None:
    events, size = ledger.event(p, i), stored_bytes(plan, p, i)
    written, reads = _written_and_read(plan, p, i, keep)
    for n, start in enumerate(written):
        # with a history of h, a feature is still read when h − 1 newer ones have been written
        stop = written[n + plan.policy.history] if n + plan.policy.history < len(written) else plan.steps
        read = reads[(reads > start) & (reads <= stop)]
        if read.size:
            features[start : read[-1], p, i] += 1
            ledger.add(_Life(int(events[start]), int(events[read[-1]]), size), feature=True)


def _written_and_read(plan: Plan, p: int, i: int, keep: Bits) -> tuple[Steps, Steps]:
    """The steps in which a feature of site `i` is kept, and those in which its features are read."""
    amounts = plan.amounts[:, p, i]
    if plan.probes.get(plan.sites[i].stack) == i:
        # kept where all that it speaks for is kept, too: the same features, forecast in the same way
        others = [j for j, site in enumerate(plan.sites) if site.kind == REGION and site.stack == plan.sites[i].stack]
        served = (plan.amounts[:, p, others] == 0).any(axis=1)
        keep[served & (amounts == ALL), p, i] |= KEEP_PROBE
        return np.flatnonzero(~served & (amounts == ALL)), np.flatnonzero(served & (amounts == ALL))
    # a step that watches the drift reads the features before it writes a new one
    return np.flatnonzero(amounts == ALL), np.flatnonzero((amounts >= 0) | (keep[:, p, i] & KEEP_DRIFT > 0))


def stored_bytes(plan: Plan, p: int, i: int) -> int:
    """Bytes of one feature of site `i` as it is kept."""
    anatomy, site = plan.anatomies[p], plan.sites[i]
    if plan.policy.storage == "same":
        return anatomy.feature_bytes(site)
    return anatomy.shape.rows * anatomy.tokens(site) * (site.width + SCALE_BYTES)


def _visits(plan: Plan, step: int, p: int, features: Bits, ledger: _Ledger) -> None:
    """What one pass has on the device of features that are kept on the host."""
    amounts, later = plan.amounts[step, p], features[step, p]
    ran = np.flatnonzero(amounts != SKIPPED)
    if not ran.size:
        return
    first = (step * plan.passes + p) * len(plan.sites)
    reads = np.flatnonzero(amounts >= 0)
    for n, i in enumerate(reads):
        born = int(reads[n - AHEAD] if n >= AHEAD else ran[0])
        if born < i:
            size = int(features[step - 1, p, i]) * stored_bytes(plan, p, int(i))
            ledger.visit(_Life(first + born, first + int(i), size))
    sent = (amounts == ALL) | ((amounts > 0) & (plan.policy.stale == "reuse"))
    sent = np.flatnonzero(sent & (later > 0))
    for n, i in enumerate(sent):
        end = int(sent[n + PENDING]) if n + PENDING < len(sent) else len(plan.sites)
        ledger.visit(_Life(first + int(i), first + end, stored_bytes(plan, p, int(i))))


def _maps(plan: Plan, p: int, i: int, site: Site, keep: Bits, ledger: _Ledger) -> None:
    is_self = site.kind == SELF_ATTENTION
    scores = plan.policy.self_scores if is_self else plan.policy.cross_scores
    readers = [j for j, s in enumerate(plan.sites) if (s.self_map if is_self else s.cross_map) == site.name]
    if not scores or not readers:
        return
    anatomy, amounts = plan.anatomies[p], plan.amounts[:, p, i]
    size = len(scores) * anatomy.shape.rows * anatomy.tokens(site) * SCORE_BYTES
    own = ledger.event(p, i)
    reads = np.sort(np.concatenate([ledger.event(p, j)[plan.choices[:, p, j] > 0] for j in readers]))
    for born, died in _spans(own[amounts == ALL], ledger.end):
        read = reads[(reads > born) & (reads < died)]
        if read.size:
            last = int(read[-1])
            ledger.add(_Life(born, last, size))
            # a cross-attention may update its own map between two reads
            keep[:, p, i][(own >= born) & (own < last)] |= KEEP_MAP
            for j in readers:
                event = ledger.event(p, j)
                bit = KEEP_SELF_MAP if is_self else KEEP_CROSS_MAP
                keep[:, p, j][(event > born) & (event < last) & (plan.choices[:, p, j] > 0)] |= bit


def _pairs(plan: Plan, p: int, i: int, keep: Bits, ledger: _Ledger) -> None:
    amounts, own = plan.amounts[:, p, i], ledger.event(p, i)
    reads = own[amounts > 0]
    for born, died in _spans(own[amounts == ALL], ledger.end):
        read = reads[(reads > born) & (reads < died)]
        if read.size:
            last = int(read[-1])
            ledger.add(_Life(born, last, plan.anatomies[p].pair_bytes(plan.sites[i])))
            keep[:, p, i][(own >= born) & (own < last) & (amounts != SKIPPED)] |= KEEP_PAIRS


def _drifts(plan: Plan, p: int, scope: tuple[int, ...], keep: Bits, ledger: _Ledger) -> None:
    anatomy, home = plan.anatomies[p], scope[-1]
    size = anatomy.shape.rows * anatomy.tokens(plan.sites[home]) * SCORE_BYTES
    chosen = np.sort(np.concatenate([ledger.event(p, j)[plan.choices[:, p, j] > 0] for j in scope]))
    written = ledger.event(p, home)[plan.amounts[:, p, home] == ALL]
    first = np.sort(np.concatenate([ledger.event(p, j)[plan.amounts[:, p, j] == ALL] for j in scope]))
    for n, (born, died) in enumerate(_spans(written, ledger.end)):
        choices = chosen[(chosen > born) & (chosen < died)]
        if n == 0 or not choices.size:  # the first full step has nothing to compare with
            continue
        step = born // (plan.passes * len(plan.sites))
        for j in scope:
            if plan.amounts[step, p, j] == ALL:
                keep[step, p, j] |= KEEP_DRIFT
        start = first[first >= step * plan.passes * len(plan.sites)][0]
        ledger.add(_Life(int(start), int(choices[-1]), size))
        for j in scope:
            event = ledger.event(p, j)
            keep[:, p, j][(event > born) & (event < choices[-1]) & (plan.choices[:, p, j] > 0)] |= KEEP_DRIFT


def _between_choices(
    plan: Plan, p: int, scope: tuple[int, ...], bit: int, item_bytes: int, keep: Bits, ledger: _Ledger
) -> None:
    """One number per token of a scope that the first choice after a full step leaves for the later ones."""
    anatomy = plan.anatomies[p]
    home = scope[-1]
    size = anatomy.shape.rows * anatomy.tokens(plan.sites[home]) * item_bytes
    # a fused block chooses before its attention is served
    first = {j: anatomy.index[plan.sites[j].inside[0]] if plan.sites[j].kind == PARALLEL else j for j in scope}
    chosen = np.sort(np.concatenate([ledger.event(p, first[j])[plan.choices[:, p, j] > 0] for j in scope]))
    for born, died in _spans(ledger.event(p, home)[plan.amounts[:, p, home] == ALL], ledger.end):
        choices = chosen[(chosen > born) & (chosen < died)]
        if choices.size > 1:  # a single choice leaves nothing that a later one reads
            ledger.add(_Life(int(choices[0]), int(choices[-1]), size))
            for j in scope:
                event = ledger.event(p, first[j])
                keep[:, p, j][(event >= choices[0]) & (event < choices[-1]) & (plan.choices[:, p, j] > 0)] |= bit


def _spans(starts: NDArray[np.int64], end: int) -> Iterator[tuple[int, int]]:
    """From each start to the next, the last one to `end`."""
    stops = [*starts[1:].tolist(), end]
    return zip(starts.tolist(), stops, strict=True)
