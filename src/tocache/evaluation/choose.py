"""Which settings of each method and peer are measured: those that lie around the wished points, costed beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tocache.api import enabled, report
from tocache.errors import TocacheError, TocacheWarning
from tocache.evaluation.contenders import OURS, PEER, STEPS, Contender, sweep
from tocache.evaluation.frontier import bracket
from tocache.evaluation.peers.base import Peer
from tocache.methods import Uncached
from tocache.models.architectures import one_line
from tocache.plan import Anatomy

_NOTHING = 1.005  # a FLOPs ratio below which a setting has skipped nothing

Chosen = tuple[str, Contender, str]
"""Source, contender, and why it takes no part ("" where it does)."""


@dataclass(frozen=True)
class Choice:
    """What choosing needs.

    uncached  FLOPs of the first batch without a cache
    steps   what the pipeline's call is asked for; ticks: how often its scheduler then steps
    draw    draws the first batch without a cache; peek: the same in two steps
    ratio   FLOPs uncached ÷ FLOPs of a contender on the first batch, by running it
    """

    pipe: Any
    uncached: int
    steps: int
    ticks: int
    points: Sequence[float]
    draw: Callable[[], Any]
    peek: Callable[[], Any]
    ratio: Callable[[Contender], float]
    tell: Callable[[str, int, int], None]


def choose(
    choice: Choice, methods: Sequence[tuple[str, str, Mapping[str, Any]]], peers: Sequence[Peer]
) -> Iterator[Chosen]:
    """The settings to measure of all methods and peers, and a line for each that cannot run."""
    anatomies: Sequence[Anatomy] = ()
    cannot = ""
    if methods:
        try:
            anatomies = _anatomies(choice)
        except TocacheError as error:
            cannot = one_line(error)
    for curve, name, given in methods:
        try:
            swept = [] if cannot else sweep(curve, name, given, anatomies, choice.ticks, uncached=choice.uncached)
        except TocacheError as error:
            yield "", Contender(curve, "", OURS), one_line(error)
            continue
        yield from (("", one, "") for one in _around(swept, choice.points))
        if cannot:
            yield "", Contender(curve, "", OURS), cannot
    for number, peer in enumerate(peers):
        choice.tell(f"costing {peer.name}", number, len(peers))
        yield from _settings_of(choice, peer)


def _settings_of(choice: Choice, peer: Peer) -> Iterator[Chosen]:
    try:
        peer.check()
        settings = peer.settings(choice.pipe, choice.steps, choice.draw)
    except Exception as error:  # whatever another package raises is its row's content
        yield peer.source, Contender(peer.name, "", PEER), said(error)
        return
    costed: list[Contender] = []
    refused: list[Chosen] = []
    for one in settings:
        if one.ratio is None:
            try:
                one = replace(one, ratio=choice.ratio(one))  # noqa: PLW2901
            except Exception as error:
                refused.append((peer.source, one, said(error)))
                continue
        costed.append(one)
        if one.kind != STEPS and one.ratio is not None and one.ratio >= max(choice.points):
            break
    # where every setting is refused, the first says why
    yield from refused if costed else refused[:1]
    idle = [one for one in costed if (one.ratio or 0) < _NOTHING and one.kind == PEER]
    saving = [one for one in costed if one not in idle]
    if idle and not saving:
        yield peer.source, replace(idle[0], setting=""), f"skips nothing, up to the setting {idle[-1].setting}"
        return
    for one in idle:
        if one.always:
            yield peer.source, one, "skips nothing at this setting, which is what its makers recommend"
    yield from ((peer.source, one, "") for one in _around(saving, choice.points))


def _around(settings: Sequence[Contender], points: Sequence[float]) -> list[Contender]:
    chosen = bracket([one.ratio or 0.0 for one in settings], points)
    return [one for i, one in enumerate(settings) if i in chosen or one.always]


def _anatomies(choice: Choice) -> Sequence[Anatomy]:
    """What the model is made of at the batch's shape, as a run measures it."""
    with warnings.catch_warnings(), enabled(choice.pipe, Uncached()):
        warnings.simplefilter("ignore", TocacheWarning)  # that two steps leave little to save
        choice.peek()
        plan = report(choice.pipe).plan
    # of a run of two steps: what it knows of times is not the reference's
    return () if plan is None else [replace(anatomy, times=()) for anatomy in plan.anatomies]


def said(error: BaseException) -> str:
    """Kind and text of an error in one line."""
    return f"{type(error).__name__}: {one_line(error)}"
