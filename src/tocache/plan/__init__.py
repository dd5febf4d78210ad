"""When a site is computed and for how many tokens: integers, decided before the run, without torch."""

from tocache.plan.anatomy import Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.cost import flops_by_site, flops_planned, flops_uncached
from tocache.plan.files import load_plan, plan_from_dict, plan_to_dict, save_plan
from tocache.plan.memory import Lifetimes, lifetimes
from tocache.plan.plan import ALL, SKIPPED, Plan, kind_of
from tocache.plan.policy import Policy
from tocache.plan.schedule import Cycles, Every, Listed, Schedule, Sensitive, Spaced, Weighted
from tocache.plan.score_cost import flops_scores

__all__ = [
    "ALL",
    "SKIPPED",
    "Anatomy",
    "Budget",
    "Cost",
    "Cycles",
    "Every",
    "Lifetimes",
    "Listed",
    "Pass",
    "Plan",
    "Policy",
    "Schedule",
    "Sensitive",
    "Site",
    "Spaced",
    "Weighted",
    "flops_by_site",
    "flops_planned",
    "flops_scores",
    "flops_uncached",
    "kind_of",
    "lifetimes",
    "load_plan",
    "plan_from_dict",
    "plan_to_dict",
    "save_plan",
]
