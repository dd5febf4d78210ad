"""What is measured of each contender's pictures, batch by batch, so that no picture has to be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tocache.demo.judge import SIDE, Seen, check, load_judge, look, pooled_features, read_digits
from tocache.errors import OptionError
from tocache.evaluation.lpips import load_lpips
from tocache.evaluation.metrics import frechet_distance, paired_distance, psnr, ssim
from tocache.evaluation.prompts import Task

EQUAL = 100.0
"""dB that stand for the infinite PSNR of equal pictures, so that means and files hold numbers."""

PSNR, SSIM, JUDGE, LPIPS = "psnr", "ssim", "judge_distance", "lpips"
PAIRED = (PSNR, SSIM, JUDGE, LPIPS)
CLAIMS, WHOLE = "claims", "prompts"
RISING = (PSNR, SSIM, CLAIMS, WHOLE)
"""Metrics of which more is better."""


@dataclass
class Scores:
    """One number per picture or video, by metric; features of all of them."""

    values: dict[str, list[float]] = field(default_factory=dict)
    features: list[Tensor] = field(default_factory=list)

    def add(self, name: str, values: Tensor | Sequence[float]) -> None:
        self.values.setdefault(name, []).extend(float(value) for value in values)


class Scorer:
    """Measures pictures; what cannot be measured here is left out, and `left_out` says why.

    judged   whether the pictures are of the demos' world, so that the judge can read them
    """

    def __init__(self, *, judged: bool) -> None:
        self.judged = judged
        self.left_out: dict[str, str] = {}
        self._lpips: Callable[[Tensor, Tensor], Tensor] | None = None
        try:
            self._lpips = load_lpips()
        except OptionError as error:
            self.left_out[LPIPS] = str(error)

    def score(self, into: Scores, tasks: Sequence[Task], pictures: Tensor, references: Tensor | None) -> None:
        """Adds what `pictures` (B, 3, H, W) or videos (B, F, 3, H, W) show, and how far they are from `references`."""
        if references is not None and references.shape == pictures.shape:
            self._pair(into, pictures, references)
        if self.judged and self._fits(pictures):
            self._judge(into, tasks, pictures)

    def frechet(self, scores: Scores, real: Tensor | None) -> float | None:
        """Distance of the features of all pictures to those of real ones, (N, D); None where either is missing."""
        if real is None or not scores.features:
            return None
        features = torch.cat(scores.features)
        return frechet_distance(features, real) if len(features) > 1 else None

    def _pair(self, into: Scores, pictures: Tensor, references: Tensor) -> None:
        into.add(PSNR, psnr(pictures, references).clamp(max=EQUAL))
        try:
            into.add(SSIM, ssim(pictures, references))
        except OptionError as error:
            self.left_out[SSIM] = str(error)
        if self._fits(pictures):
            into.add(JUDGE, paired_distance(_judge_features, pictures, references))
        if self._lpips is not None:
            frames = [x.flatten(0, 1) if x.dim() == 5 else x for x in (pictures, references)]
            into.add(LPIPS, self._lpips(*frames).reshape(len(pictures), -1).mean(dim=1))

    def _judge(self, into: Scores, tasks: Sequence[Task], pictures: Tensor) -> None:
        first, last = (pictures[:, 0], pictures[:, -1]) if pictures.dim() == 5 else (pictures, None)
        into.features.append(features_of(pictures))
        if any(task.claims for task in tasks):
            later: Sequence[list[Seen] | None] = look(last) if last is not None else [None] * len(first)
            for task, seen, ended in zip(tasks, look(first), later, strict=True):
                held = check(task.claims, seen, ended)
                into.add(CLAIMS, [sum(held) / len(held)])
                into.add(WHOLE, [float(all(held))])
        if any(task.digit is not None for task in tasks):
            into.add(WHOLE, [float(task.digit == read) for task, read in zip(tasks, read_digits(first), strict=True)])

    def _fits(self, pictures: Tensor) -> bool:
        height, width = pictures.shape[-2:]
        if height == width and height % SIDE == 0:
            return True
        self.left_out[JUDGE] = f"the judge looks at squares of {SIDE} pixels and multiples, not at {height} × {width}"
        return False


def features_of(pictures: Tensor) -> Tensor:
    """What the judge sees of pictures or of the middle frame of videos, for Fréchet distances: (B, 192)."""
    return pooled_features(pictures[:, pictures.shape[1] // 2] if pictures.dim() == 5 else pictures)


def as_figure(values: Sequence[float]) -> dict[str, float] | None:
    """Mean over pictures, and its 95% interval by bootstrap; None where nothing was measured."""
    from tocache.evaluation.metrics import bootstrap_interval

    if not values:
        return None
    low, high = bootstrap_interval(values)
    return {"mean": sum(values) / len(values), "low": low, "high": high}


@torch.inference_mode()
def _judge_features(pictures: Tensor) -> Any:
    return load_judge().features(pictures.float())
