"""Pictures measured against the pictures of the same name in another set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.lpips import load_lpips
from tocache.evaluation.metrics import psnr, ssim
from tocache.evaluation.scores import EQUAL
from tocache.evaluation.sets.pictures import PictureSet
from tocache.evaluation.sets.report import JUDGE, LPIPS, PSNR, SSIM


class Pairs:
    """One number per picture and metric. What cannot be measured is left out, and `left_out` says why."""

    def __init__(self, metrics: Sequence[str]) -> None:
        known: dict[str, Callable[[Tensor, Tensor], Tensor]] = {PSNR: _psnr, SSIM: ssim, JUDGE: _judge}
        self.left_out: dict[str, str] = {}
        self.equal = 0
        """Pairs that are equal to the bit."""
        if LPIPS in metrics:
            try:
                known[LPIPS] = load_lpips()
            except OptionError as error:
                self.left_out[LPIPS] = str(error)
        self._measures = {name: known[name] for name in metrics if name in known}
        self._values: dict[str, list[Tensor]] = {name: [] for name in self._measures}

    @torch.inference_mode()
    def add(self, pictures: Tensor, others: Tensor) -> None:
        """Measures a batch, (B, 3, H, W) in [0, 1] twice."""
        self.equal += int((pictures == others).flatten(1).all(dim=1).sum())
        for name, measure in list(self._measures.items()):
            try:
                self._values[name].append(measure(pictures, others).double())
            except OptionError as error:
                self.left_out[name] = str(error)
                del self._measures[name], self._values[name]

    def values(self) -> dict[str, Tensor]:
        """By metric, (N,) float64 in the order of the pictures."""
        return {name: torch.cat(values) for name, values in self._values.items() if values}


def check_pairs(samples: PictureSet, others: PictureSet) -> None:
    """Raises OptionError where the two sets do not have the same names in the same order, drawn from the same prompts
    and seeds as far as these are known.
    """
    one, other = set(samples.names), set(others.names)
    for missing, where in ((sorted(one - other), others.path), (sorted(other - one), samples.path)):
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise OptionError(f"{where}: has no {missing[0]}{more}; pairs need the same names on both sides")
    if list(samples.names) != list(others.names):
        raise OptionError(f"{samples.path} and {others.path} hold the same names in another order")
    for what, here, there in (("prompt", samples.prompts, others.prompts), ("seed", samples.seeds, others.seeds)):
        for name, a, b in zip(samples.names, here or (), there or (), strict=False):
            if a != b:
                raise OptionError(f"{name} was drawn from {what} {a!r} here and from {b!r} there")


def _psnr(pictures: Tensor, others: Tensor) -> Tensor:
    return psnr(pictures, others).clamp(max=EQUAL)


def _judge(pictures: Tensor, others: Tensor) -> Tensor:
    from tocache.demo.judge import perceptual_distance

    return perceptual_distance(pictures, others)
