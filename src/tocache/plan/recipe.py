"""A recipe: the schedule, budget and policy that were published for a model, or are taken where none were."""

from __future__ import annotations

from dataclasses import dataclass

from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.schedule import Cycles, Every, Weighted


@dataclass(frozen=True)
class Recipe:
    """Everything that `ToCa(interval, fresh_ratio)` leaves open."""

    name: str
    schedule: Cycles | Every | Weighted
    budget: Budget
    policy: Policy
    source: str  # where the constants come from
