"""Plans found by measuring: what a model can least do without, at the price or the loss asked for."""

from tocache.tuning.goal import Goal, parse_seconds
from tocache.tuning.tune import Progress, Tuned, tune

__all__ = ["Goal", "Progress", "Tuned", "parse_seconds", "tune"]
