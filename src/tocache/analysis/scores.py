"""How well each score foretells which tokens are worth computing: against what computing them really brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tocache.analysis.files import Row, write_table
from tocache.analysis.oracle import Benefits, Kept, Setting, find_benefits
from tocache.analysis.places import text_before
from tocache.analysis.ranks import rank_correlation
from tocache.analysis.subject import Drawn, Subject
from tocache.errors import OptionError
from tocache.evaluation.metrics import bootstrap_interval
from tocache.methods import Method
from tocache.methods.base import recipe_of
from tocache.plan import ALL, Anatomy, Plan, Policy
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, PARALLEL, Site
from tocache.plan.policy import CROSS_MAP_SCORES, SCORES, SELF_MAP_SCORES
from tocache.planning import check_count

Floats = NDArray[np.float64]
PUBLISHED = "published policy"
"""The name of the whole policy of the model's recipe, beside those of the base scores."""
_SHARE = 0.25  # of the tokens, in `captured`


@dataclass(frozen=True)
class Scores:
    """Rank correlations, one for each score, step, pass, site and picture.

    sites        where
    places       (step, pass, site) of each row of the tables
    correlation  score → (places, pictures) Spearman's ρ of the score and the benefit over the tokens that were tried
    captured     score → (places, pictures) the benefit of the quarter of the tokens with the highest scores ÷ that of
                 the best quarter; NaN where the best quarter brings nothing
    benefit      (places, pictures, tokens) share of the answer's squared error that computing the token takes away
    ranks        score → (places, pictures, tokens) place of the token in the score's order: 0 is the best
    tokens       which of the image's tokens were tried; `shape` is how they lie
    stale        (places, pictures) relative error of the answer when everything is served
    """

    about: dict[str, Any]
    sites: tuple[Site, ...]
    places: tuple[tuple[int, int, int], ...]
    correlation: Mapping[str, Floats]
    captured: Mapping[str, Floats]
    benefit: Floats
    ranks: Mapping[str, Floats]
    tokens: NDArray[np.int64]
    shape: tuple[int, ...]
    stale: Floats

    def summary(self) -> list[tuple[str, float, float, float, float]]:
        """(score, mean correlation, low and high of its 95% interval by bootstrap, mean captured), best first."""
        found = []
        for name, values in self.correlation.items():
            known = values[np.isfinite(values)]
            low, high = bootstrap_interval(known.tolist())
            captured = self.captured[name]
            found.append((name, float(known.mean()), low, high, float(captured[np.isfinite(captured)].mean())))
        return sorted(found, key=lambda row: -row[1])

    def rows(self) -> list[Row]:
        """One row per score, place and picture."""
        return [
            {
                "score": name,
                "step": step,
                "pass": number,
                "site": self.sites[i].name,
                "kind": self.sites[i].kind,
                "block": self.sites[i].block,
                "picture": picture,
                "rank_correlation": float(f"{values[k, picture]:.5g}"),
                "captured": float(f"{self.captured[name][k, picture]:.5g}"),
            }
            for name, values in self.correlation.items()
            for k, (step, number, i) in enumerate(self.places)
            for picture in range(values.shape[1])
        ]

    def save(self, path: Path) -> None:
        """Writes the rows as CSV. Raises OptionError where that fails."""
        write_table(path, self.rows(), self.about)

    def draw(self, path: Path) -> None:
        """Writes the picture. Raises OptionError without matplotlib, or where it cannot be written."""
        from tocache.analysis.pictures.scores import draw_scores

        draw_scores(self, path)


def scores(
    subject: Subject,
    names: Sequence[str] | None = None,
    *,
    kinds: Sequence[str] | None = None,
    interval: int = 3,
    steps: int = 3,
    sites: int = 6,
    tokens: int = 36,
) -> Scores:
    """Tries tokens one at a time, and compares what each brought with what the scores had said.

    names     of scores; None: all that the model can give, and the published policy
    kinds     of the layers; None: cross-attention, MLPs and single-stream blocks, where the model has them
    interval  steps from one full step to the next
    steps     in how many served steps
    sites     at how many layers of each kind
    tokens    how many of the image's tokens, at most, at even distances on the grid

    Both guidance halves compute the same token and are scored together. All tokens are equally stale here, so that
    ToCa's s3 has nothing to tell.

    Raises OptionError for unknown names and kinds, and numbers that cannot be.
    """
    for name, value in (("steps", steps), ("sites", sites), ("tokens", tokens)):
        check_count(name, value)
    if interval < 2:
        raise OptionError(f"interval={interval} is not allowed; allowed: an integer >= 2")
    for name in names or ():
        if name not in (*SCORES, PUBLISHED):
            raise OptionError(f"score={name!r} is not allowed; allowed: {', '.join((*SCORES, PUBLISHED))}")
    usual = _kinds_of(subject) if kinds is None else tuple(kinds)
    setting = Setting(interval, steps, sites, usual, tokens)
    found = find_benefits(subject, setting)
    places = tuple(sorted(found.benefit))
    policies = _policies(found.drawn.plan.anatomies[0], found.drawn.plan.steps, places, names)
    benefit = np.stack([found.benefit[place] for place in places])
    ranks: dict[str, Floats] = {}
    for turn, (name, policy) in enumerate(policies.items()):
        subject.tell(f"score {name}", turn, len(policies))
        ranks[name] = _ranks(subject, setting, policy, places, found)
    subject.tell("done", 1, 1)
    about = subject.about(found.drawn, "scores") | {"interval": interval}
    return Scores(
        about,
        found.drawn.plan.sites,
        places,
        {name: _each(rank_correlation, -rank, benefit) for name, rank in ranks.items()},
        {name: _each(captured, -rank, benefit) for name, rank in ranks.items()},
        benefit,
        ranks,
        found.tokens,
        found.shape,
        np.stack([found.stale[place[:2]] for place in places]),
    )


def captured(score: Floats, benefit: Floats) -> float:
    """Benefit of the quarter of the tokens with the highest `score` ÷ that of the best quarter: at most 1."""
    count = max(1, round(_SHARE * len(benefit)))
    best = np.sort(benefit)[::-1][:count].sum()
    return float(benefit[np.argsort(-score, kind="stable")[:count]].sum() / best) if best > 0 else float("nan")


@dataclass(frozen=True)
class _Ranking(Method):
    """Full steps at an interval, nothing in between, but in some steps some sites rank all their tokens."""

    name: ClassVar[str] = "ranking"

    setting: Setting
    policy: Policy = field(default_factory=Policy)

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        fresh = np.zeros((steps, len(anatomies), len(anatomies[0].sites)), dtype=np.int32)
        fresh[:: self.setting.interval] = ALL
        for number, anatomy in enumerate(anatomies):
            for i in self.setting.sites_of(anatomy):
                fresh[self.setting.steps_of(steps), number, i] = anatomy.tokens(anatomy.sites[i])
        return Plan(tuple(anatomies), fresh, self.policy, str(self))


def _ranks(
    subject: Subject, setting: Setting, policy: Policy, places: Sequence[tuple[int, int, int]], found: Benefits
) -> Floats:
    """(places, pictures, tokens) the order in which the engine would choose the tokens, of those that were tried.

    The sites rank all tokens and compute them; the model is given what is cached none the less, so that each chooses
    from what it sees when everything is served.
    """
    kept = Kept(setting)
    drawn = subject.draw(_Ranking(setting, policy), on_output=kept.give)
    return np.stack([_rank_at(drawn, place, found) for place in places])


def _rank_at(drawn: Drawn, place: tuple[int, int, int], found: Benefits) -> Floats:
    step, number, i = place
    anatomy = drawn.plan.anatomies[number]
    site = anatomy.sites[i]
    order: Tensor = drawn.choices.choices[step, number, site.name]  # (rows, tokens of the site), best first
    rank = order.argsort(dim=1)[:, text_before(anatomy, site) + np.asarray(found.tokens)].numpy()
    return rank[: found.benefit[place].shape[0]].astype(np.float64)  # both halves choose alike: one is enough


def _each(measure: Any, score: Floats, benefit: Floats) -> Floats:
    """(places, pictures) `measure` of each row of tokens."""
    return np.array(
        [[measure(one, other) for one, other in zip(a, b, strict=True)] for a, b in zip(score, benefit, strict=True)]
    )


def _policies(
    anatomy: Anatomy, steps: int, places: Sequence[tuple[int, int, int]], names: Sequence[str] | None
) -> dict[str, Policy]:
    """By name; those that these sites cannot give are left out unless they were asked for (then a plan says why)."""
    sites = [anatomy.sites[i] for _, _, i in places]
    missing = set(() if all(site.self_map for site in sites) else SELF_MAP_SCORES)
    missing |= set(() if all(site.cross_map for site in sites) else CROSS_MAP_SCORES)
    published = recipe_of([anatomy], steps).policy
    known = {name: Policy(scores={name: 1.0}) for name in SCORES}
    known[PUBLISHED] = replace(published, share="sublayer", clusters=0, propagation=0.0)
    wanted = names or [name for name, policy in known.items() if not missing & set(policy.scores)]
    # "polynomial" of order 0 is reuse, but of a cache into which fresh rows are not written: the steps after are as
    # they would be without the ranking
    return {name: replace(known[name], together=True, stale="polynomial", order=0) for name in wanted}


def _kinds_of(subject: Subject) -> tuple[str, ...]:
    """The kinds of layers of which published methods compute single tokens, as far as the model has them."""
    from tocache.models.registry import family_of

    transformer = subject.pipe.transformer
    family = family_of(transformer)
    shape = family.default_pass(transformer, pictures=1, guided=False, itemsize=4)
    present = {site.kind for site in family.anatomy(transformer, shape).sites if site.rows and site.group != "text"}
    return tuple(kind for kind in (CROSS_ATTENTION, MLP, PARALLEL) if kind in present)
