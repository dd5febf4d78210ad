"""What stale tokens get: the feature as it was, or its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Feature:
    """One cached feature and the step at which it was computed in full."""

    value: torch.Tensor  # (rows, tokens, width)
    step: int


def forecast_reuse(history: Sequence[Feature], step: int) -> torch.Tensor:
    """The newest feature as it is: the stored tensor itself, so that fresh rows can be written into it."""
    return history[-1].value


def forecast_polynomial(history: Sequence[Feature], step: int) -> torch.Tensor:
    """Newton's polynomial through the last full features, at `step`; a new tensor.

    With m + 1 features it is exact on polynomials of degree m, whatever the spacing of the full steps. Of first
    order it is TaylorSeer's forecast (arXiv 2503.06923), which from the second order on reads the finite differences
    as derivatives instead and so is no longer exact.
    """
    # divided differences of the values in order of time, newest first, so that fewer features mean a lower order
    newest_first = list(reversed(history))
    at = [feature.step for feature in newest_first]
    differences = [feature.value.float() for feature in newest_first]
    forecast = differences[0].clone()
    factor = 1.0
    for order in range(1, len(at)):
        differences = [
            (differences[j] - differences[j + 1]) / (at[j] - at[j + order]) for j in range(len(differences) - 1)
        ]
        factor *= step - at[order - 1]
        forecast += factor * differences[0]
    return forecast.to(history[-1].value.dtype)
