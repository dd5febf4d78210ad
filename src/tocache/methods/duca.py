"""DuCa: reuse and fresh tokens take turns between full steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tocache.methods.base import Method, check, check_interval, fill_table, is_number, is_share, recipe_of
from tocache.plan.anatomy import Anatomy
from tocache.plan.budget import Budget
from tocache.plan.plan import ALL, Plan
from tocache.plan.policy import SCORES, Policy


@dataclass(frozen=True)
class DuCa(Method):
    """DuCa (Zou et al., arXiv 2412.18911): between full steps, steps that reuse all and steps as ToCa's take turns.

    interval     steps from one full step to the next, by the rule of the family's recipe
    fresh_ratio  share of tokens that every other step in between computes, the same at all depths and times; of the
                 kinds of sub-layer that the recipe names; 0 is FORA
    scores       base scores by weight; None: {"value-norm": 1}, as published, or the recipe's where the model's
                 sub-layers have no self-attention to read it off; {"random": 1} is what its second version found no
                 worse
    staleness    weight of the time since a token was fresh, so that the choice moves on
    queries      share of the queries that the score "influence" is estimated from; 1 is exact
    """

    name: ClassVar[str] = "duca"

    interval: int = 3
    fresh_ratio: float = 0.1
    scores: Mapping[str, float] | None = None
    staleness: float = 0.25
    seed: int = 0
    queries: float = 1.0

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check("fresh_ratio", self.fresh_ratio, is_number(self.fresh_ratio, 0, 1), "0 … 1")
        for score in self.scores or ():
            check("scores", score, score in SCORES, " | ".join(SCORES))
        check("staleness", self.staleness, is_number(self.staleness, 0, float("inf")), "a number >= 0")
        check("queries", self.queries, is_share(self.queries), "above 0, up to 1")

    def plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        recipe = recipe_of(anatomies, steps)
        kinds = {kind: 1.0 for kind, factor in recipe.budget.kinds.items() if factor > 0}
        schedule = recipe.schedule.as_fora(self.interval)
        fresh = fill_table(anatomies, steps, schedule, Budget(self.fresh_ratio, kinds))
        for p in range(len(anatomies)):
            for i in range(fresh.shape[2]):
                since = 0
                for step in range(steps):
                    since = 0 if fresh[step, p, i] == ALL else since + 1
                    if since % 2:  # reuse comes first, as in the published code
                        fresh[step, p, i] = 0
        readable = all(site.self_map for site in anatomies[0].sites if site.kind in kinds)
        usual = {"value-norm": 1.0} if readable else recipe.policy.scores
        policy = Policy(
            scores=usual if self.scores is None else self.scores,
            staleness=self.staleness,
            interval=self.interval,
            together=recipe.policy.together,
            seed=self.seed,
            queries=self.queries,
        )
        return Plan(tuple(anatomies), fresh, policy, str(self))
