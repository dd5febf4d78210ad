"""How far pictures are from the uncached ones: what a tuning makes small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf, isfinite

import numpy as np
import torch
from torch import Tensor

from tocache.demo.judge import SIDE, load_judge
from tocache.errors import OptionError
from tocache.evaluation.metrics import paired_distance, ssim

JUDGE, PIXELS = "judge", "pixels"
MEANINGS = {
    JUDGE: "mean distance in the judge's features",
    PIXELS: "square of the mean root mean squared error of pixels",
}


def measure_for(pictures: Tensor, *, demo: bool) -> str:
    """JUDGE for the demos' pictures where they fit the judge, else PIXELS."""
    height, width = pictures.shape[-2:]
    return JUDGE if demo and height == width and height % SIDE == 0 else PIXELS


def distances(measure: str, pictures: Tensor, references: Tensor) -> list[float]:
    """One number per picture, in [0, 1] (B, 3, H, W), or video: what `loss` takes."""
    if measure == JUDGE:
        return paired_distance(_features, pictures, references).tolist()
    return (pictures - references).square().flatten(1).mean(dim=1).tolist()


def loss(measure: str, values: Sequence[float]) -> float:
    """All pictures as one number.

    Of squared errors of pixels not the mean: a few pictures in which something else comes to be would outweigh all
    others. The judge's distance is bounded. Infinite where a picture holds numbers that are not finite.
    """
    found = float(np.mean(values) if measure == JUDGE else np.mean(np.sqrt(values)) ** 2)
    return found if isfinite(found) else inf


def figures(pictures: Tensor, references: Tensor, measure: str) -> dict[str, list[float]]:
    """What is reported, one number per picture: the distance, the mean squared error and, where it can be, 1 − SSIM."""
    found = {"distance": distances(measure, pictures, references), "mse": distances(PIXELS, pictures, references)}
    with suppress(OptionError):  # too small for its window
        found["1 - ssim"] = (1 - ssim(pictures, references)).tolist()
    return found


def summary(measure: str, values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The figures of all pictures: `loss`, and the means of the others."""
    means: dict[str, float] = {name: float(np.mean(each)) for name, each in values.items() if name != "distance"}
    return {"loss": loss(measure, values["distance"]), **means}


@torch.inference_mode()
def _features(pictures: Tensor) -> Tensor:
    return load_judge().features(pictures.float())
