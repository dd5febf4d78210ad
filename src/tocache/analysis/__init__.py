"""Studies of what a cache meets in a model: how features change, what errors do, and what choosing tokens is worth."""

from tocache.analysis.propagation import Propagation, propagation
from tocache.analysis.redundancy import Redundancy, redundancy
from tocache.analysis.scores import Scores, scores
from tocache.analysis.selection import Selection, selection
from tocache.analysis.sensitivity import Sensitivity, sensitivity
from tocache.analysis.subject import Subject

__all__ = [
    "Propagation",
    "Redundancy",
    "Scores",
    "Selection",
    "Sensitivity",
    "Subject",
    "propagation",
    "redundancy",
    "scores",
    "selection",
    "sensitivity",
]
