"""What can happen between full steps: which forecast, of what, and which tokens are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tocache.methods import Placed
from tocache.plan import Anatomy, Policy
from tocache.tuning.refine import Spots

RATIOS = (0.1, 0.3)
"""Shares of the tokens that the search tries."""


@dataclass(frozen=True)
class Between:
    """One way to fill the steps between full ones; `options` are those of `Placed`, but for the steps themselves."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chooses(self) -> bool:
        """Whether tokens are computed in some steps."""
        return "fresh_ratio" in self.options

    @property
    def policy(self) -> Policy:
        """What stale tokens get."""
        known = ("stale", "order", "contraction", "low")
        return Policy(**{name: self.options[name] for name in known if name in self.options})

    def placed(self, spots: Spots, of: int) -> Placed:
        """The method with these full and partial steps of `of`."""
        return Placed(spots.full, of, partial=spots.partial, **self.options)


_SERVED = (
    Between("reuse"),
    Between("reuse of each sub-layer", {"where": "sublayers"}),
    Between("line", {"stale": "taylor", "order": 1}),
    Between("line of each sub-layer", {"where": "sublayers", "stale": "taylor", "order": 1}),
    Between("Hermite, order 2", {"stale": "hermite", "order": 2}),
    Between("low frequencies reused", {"stale": "hermite", "order": 2, "contraction": 0.71, "low": 0.1}),  # FreqCa's
)


def betweens(anatomies: Sequence[Anatomy]) -> tuple[Between, ...]:
    """All that is tried for a model; what chooses tokens only where it can compute single ones.

    The norm of the input costs nearly nothing, the attention that a token draws costs an attention map's column sums.
    """
    sites = [site for site in anatomies[0].sites if site.rows and not site.pairs]
    if not sites:
        return _SERVED
    scores: dict[str, Mapping[str, float]] = {"norm": {"norm": 1.0}}
    if all(site.self_map for site in sites):
        scores["influence"] = {"influence": 1.0}
    kinds: dict[str, Mapping[str, float] | None] = {"": None}
    if len({site.kind for site in sites}) > 1:
        kinds |= {f" of {kind}": {kind: 1.0} for kind in sorted({site.kind for site in sites})}
    chosen = [
        Between(
            f"{ratio:.0%} of the tokens{of} by {score}",
            {"where": "sublayers", "fresh_ratio": ratio, "scores": scores[score]}
            | ({} if some is None else {"kinds": some}),
        )
        for score in scores
        for ratio in RATIOS
        for of, some in kinds.items()
    ]
    return (*_SERVED, *chosen)
