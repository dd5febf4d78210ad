"""What can happen between full steps: which forecast, of what, and which tokens are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tocache.methods import Placed
from tocache.plan import Anatomy, Policy
from tocache.plan.anatomy import Site
from tocache.tuning.refine import Spots

REUSE, LINE, HERMITE, LOW = "reuse", "line", "Hermite, order 2", "low frequencies reused"
SERVED: Mapping[str, Mapping[str, Any]] = {
    REUSE: {},
    LINE: {"stale": "taylor", "order": 1},
    HERMITE: {"stale": "hermite", "order": 2},
    LOW: {"stale": "hermite", "order": 2, "contraction": 0.71, "low": 0.1},  # FreqCa's
}
"""What is served, by name, as options of `Placed`."""
RATIOS = (0.1, 0.3)
"""Shares of the tokens that the search starts with."""
_MORE_RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # that it goes on with
_SCORES = ("norm", "influence", "drift", "random")
_FREE = 2  # of these, how many it starts with


@dataclass(frozen=True)
class Tokens:
    """Which tokens are computed: this share of them, chosen by this score, in sub-layers of this kind; "": of all."""

    ratio: float
    score: str
    kind: str = ""

    @property
    def options(self) -> Mapping[str, Any]:
        kinds = {"kinds": {self.kind: 1.0}} if self.kind else {}
        return {"fresh_ratio": self.ratio, "scores": {self.score: 1.0}} | kinds

    def __str__(self) -> str:
        of = f" of {self.kind}" if self.kind else ""
        return f"{self.ratio:.0%} of the tokens{of}" + (f" by {self.score}" if self.ratio < 1 else "")


@dataclass(frozen=True)
class Between:
    """One way to fill the steps between full ones.

    served  a name in SERVED: what stale tokens get; tokens: those that are computed in some steps
    where   what the features are of, as in `Placed`
    """

    served: str
    where: str | None = None
    tokens: Tokens | None = None

    @property
    def name(self) -> str:
        """In words."""
        if self.tokens is not None:
            return f"{self.tokens}" + ("" if self.served == REUSE else f", {self.served} for the others")
        return self.served + (" of each sub-layer" if self.where == "sublayers" else "")

    @property
    def policy(self) -> Policy:
        """What stale tokens get."""
        return Policy(**SERVED[self.served])

    def placed(self, spots: Spots, of: int) -> Placed:
        """The method with these full and partial steps of `of`."""
        chosen = {} if self.tokens is None else self.tokens.options
        return Placed(spots.full, of, where=self.where, partial=spots.partial, **SERVED[self.served], **chosen)


def betweens(anatomies: Sequence[Anatomy]) -> tuple[Between, ...]:
    """Where the search starts for a model; what chooses tokens only where it can compute single ones."""
    stacks = any(not anatomies[0].unfit(span) for span in anatomies[0].spans)
    coarse = [Between(name) for name in SERVED if stacks or name != LOW]
    fine = [Between(name, "sublayers") for name in (REUSE, LINE) if stacks]  # else they are the coarse ones
    return (*coarse, *fine, *_choosing(REUSE, _scores(anatomies)[:_FREE], anatomies))


def variants(between: Between, anatomies: Sequence[Anatomy]) -> Iterator[Between]:
    """What differs from `between` in one thing: what is served, or the share, the score or the kind of its tokens."""
    names = [name for name in SERVED if name != LOW or between.where is None]
    yield from (replace(between, served=name) for name in names if name != between.served)
    if between.tokens is not None:
        yield from (replace(between, tokens=tokens) for tokens in _varied(between.tokens, anatomies))
    elif between.served != LOW:
        yield from _choosing(between.served, _scores(anatomies)[:1], anatomies)


def _choosing(served: str, scores: Sequence[str], anatomies: Sequence[Anatomy]) -> Iterator[Between]:
    """Some tokens computed, the others served."""
    if _sites(anatomies):
        for score, ratio, kind in product(scores, RATIOS, ("", *_kinds(anatomies))):
            yield Between(served, "sublayers", Tokens(ratio, score, kind))


def _varied(tokens: Tokens, anatomies: Sequence[Anatomy]) -> Iterator[Tokens]:
    at = _MORE_RATIOS.index(tokens.ratio)
    for ratio in sorted({*_MORE_RATIOS[max(0, at - 1) : at + 2], 1.0} - {tokens.ratio}):
        yield replace(tokens, ratio=ratio, score=tokens.score if ratio < 1 else _SCORES[0])  # nothing is chosen of all
    if tokens.ratio < 1:
        yield from (replace(tokens, score=score) for score in _scores(anatomies) if score != tokens.score)
    yield from (replace(tokens, kind=kind) for kind in ("", *_kinds(anatomies)) if kind != tokens.kind)


def _scores(anatomies: Sequence[Anatomy]) -> list[str]:
    """What tokens may be chosen by.

    The norm of the input, drift and chance cost nearly nothing; the attention that a token draws costs an attention
    map's column sums, where there is one.
    """
    mapped = all(site.self_map for site in _sites(anatomies))
    return [score for score in _SCORES if score != "influence" or mapped]


def _kinds(anatomies: Sequence[Anatomy]) -> list[str]:
    """Of the sub-layers that compute single tokens without the others' keys; none where there is one only."""
    kinds = sorted({site.kind for site in _sites(anatomies)})
    return kinds if len(kinds) > 1 else []


def _sites(anatomies: Sequence[Anatomy]) -> list[Site]:
    return [site for site in anatomies[0].sites if site.rows and not site.pairs]
