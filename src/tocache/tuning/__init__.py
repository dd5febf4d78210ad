"""Plans found by measuring: which steps a model can least do without, at the price asked for."""

from tocache.tuning.tune import Tuned, tune

__all__ = ["Tuned", "tune"]
