"""What a plan says beside its integers: which tokens, what the others get, how it is kept until then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tocache.errors import OptionError, PlanFileError

SHARES = ("sublayer", "block", "step")
STALE = ("reuse", "polynomial", "taylor", "hermite", "chebyshev")
CLOCKS = ("steps", "times")
STORAGES = ("same", "int8", "fp8")
# What a base score is computed from: an attention map, the site's own input, its features, or nothing at all.
SELF_MAP_SCORES = ("influence", "value-norm", "key-norm")
CROSS_MAP_SCORES = ("entropy",)
INPUT_SCORES = ("norm", "similarity")
FEATURE_SCORES = ("drift",)
SCORES = (*SELF_MAP_SCORES, *CROSS_MAP_SCORES, *INPUT_SCORES, *FEATURE_SCORES, "random")
COMBINATIONS = ("sum", "product")


@dataclass(frozen=True)
class Policy:
    """Which tokens are fresh and what stale ones get.

    score = Σ weight · base score, + staleness · age / interval (s3), then × (1 + spread) for the best token of each
    spread_size × spread_size cell of the image grid (s4). As a product, the weights are exponents:
    Π base score ^ weight · ((age + 1) / interval) ^ staleness.
    """

    scores: Mapping[str, float] = field(default_factory=dict)  # base scores (s1 "influence", s2 "entropy", …)
    staleness: float = 0.0
    interval: int = 1  # unit of staleness: the configured interval, in steps
    spread: float = 0.0
    spread_size: int = 2
    share: str = "sublayer"  # one choice of tokens per sub-layer, per block or per step
    together: bool = False  # both guidance halves choose the same tokens
    stale: str = "reuse"  # or the basis of a forecast
    order: int = 0  # of the forecast
    clock: str = "steps"  # what a forecast counts in: the numbers of the steps, or the times that the scheduler gives
    window: int = 0  # past full features that it is made of; 0: order + 1
    contraction: float = 0.5  # of the Hermite basis
    ridge: float = 0.1  # of the Chebyshev fit
    low: float = 0.0  # share of the frequencies along the tokens, from the lowest, that are reused and not forecast
    seed: int = 0  # of the random score, and of the queries that are drawn
    storage: str = "same"  # of features: their own dtype, or 8 bits a number and one float32 scale a token
    offload: bool = False  # features are kept in the host's memory and fetched shortly before they are read
    combine: str = "sum"  # of base scores and staleness
    adaptive: bool = False  # each token gets the order, up to `order`, that forecast best what its first block computes
    clusters: int = 0  # into how many the tokens are sorted, to choose the best of each; 0: the best of all are chosen
    propagation: float = 0.0  # share of the way that stale tokens are moved to the fresh one of their cluster
    queries: float = 1.0  # share of the queries that the influence of tokens is estimated from; 1: exact

    def __post_init__(self) -> None:
        for name in self.scores:
            if name not in SCORES:
                raise OptionError(f"scores: unknown base score {name!r}; allowed: {', '.join(SCORES)}")
        _check("combine", self.combine, self.combine in COMBINATIONS, " | ".join(COMBINATIONS))
        _check("share", self.share, self.share in SHARES, " | ".join(SHARES))
        _check("stale", self.stale, self.stale in STALE, " | ".join(STALE))
        _check("interval", self.interval, self.interval >= 1, "an integer >= 1")
        _check("spread_size", self.spread_size, self.spread_size >= 1, "an integer >= 1")
        for name in ("staleness", "spread"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "a number >= 0")
        _check("clock", self.clock, self.clock in CLOCKS, " | ".join(CLOCKS))
        _check("order", self.order, 0 <= self.order <= 4, "0 … 4")
        enough = self.window == 0 or self.order < self.window <= 32
        _check("window", self.window, enough, f"0, or {self.order + 1} … 32 at order {self.order}")
        _check("contraction", self.contraction, 0 < self.contraction <= 1, "above 0, up to 1")
        _check("ridge", self.ridge, self.ridge > 0, "a number > 0")
        _check("low", self.low, 0 <= self.low <= 1, "0 … 1")
        _check("low", self.low, self.stale != "reuse" or self.low == 0, "0 where all is reused")
        _check("adaptive", self.adaptive, isinstance(self.adaptive, bool), "True | False")
        forecasts = self.stale != "reuse" and not self.offload
        _check("adaptive", self.adaptive, forecasts or not self.adaptive, "False with reuse or offload")
        _check("clusters", self.clusters, isinstance(self.clusters, int) and self.clusters >= 0, "an integer >= 0")
        _check("propagation", self.propagation, 0 <= self.propagation <= 1, "0 … 1")
        _check("propagation", self.propagation, self.clusters > 0 or self.propagation == 0, "0 without clusters")
        number = isinstance(self.queries, int | float) and not isinstance(self.queries, bool)
        _check("queries", self.queries, number and 0 < self.queries <= 1, "above 0, up to 1")
        estimated = self.queries < 1
        _check("queries", self.queries, "influence" in self.scores or not estimated, "1 without the score influence")
        _check("storage", self.storage, self.storage in STORAGES, " | ".join(STORAGES))
        _check("offload", self.offload, isinstance(self.offload, bool), "True | False")

    @property
    def self_scores(self) -> tuple[str, ...]:
        """The base scores that are read off a self-attention."""
        return tuple(name for name in self.scores if name in SELF_MAP_SCORES)

    @property
    def cross_scores(self) -> tuple[str, ...]:
        """The base scores that are read off a cross-attention."""
        return tuple(name for name in self.scores if name in CROSS_MAP_SCORES)

    @property
    def watches_features(self) -> bool:
        """Whether full steps compare what they compute with what would have been served."""
        return any(name in FEATURE_SCORES for name in self.scores)

    @property
    def history(self) -> int:
        """How many past full features a stale token's value is made of."""
        return 1 if self.stale == "reuse" else self.window or self.order + 1

    def queries_of(self, tokens: int) -> int:
        """Of how many of so many tokens the queries are read for the influence of all: their share, at least one."""
        return min(tokens, max(1, round(self.queries * tokens)))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        unknown = set(data) - set(cls.__dataclass_fields__)
        if unknown:
            raise PlanFileError(f"policy: unknown option {sorted(unknown)[0]!r}")
        return cls(**data)


def _check(name: str, value: object, allowed: bool, range_: str) -> None:
    if not allowed:
        raise OptionError(f"{name}={value!r} is not allowed; allowed: {range_}")
