"""Inception score (Salimans et al., arXiv 1606.03498), streamed."""

from __future__ import annotations

import torch
from torch import Tensor

from tocache.errors import OptionError

SPLIT = 5000
"""Pictures of one split: ADM's evaluator, and torch-fidelity's ten splits of 50,000 pictures."""


class InceptionScore:
    """exp of the mean divergence of a picture's classes from those of its split, averaged over splits.

    Splits are runs of `split` pictures, by default SPLIT, in the order in which they come, as in ADM's evaluator;
    torch-fidelity shuffles them first unless `samples_shuffle=False`. Sums are float64; what stays of a picture is one
    number and, for the interval, its classes in half precision.
    """

    def __init__(self, classes: int, *, split: int | None = None) -> None:
        split = SPLIT if split is None else split
        if classes < 2 or split < 1:
            raise OptionError(f"an Inception score of {classes} classes in splits of {split}; allowed: from 2 and 1")
        self.classes, self.split = classes, split
        self._sums: list[Tensor] = []  # of the probabilities, (classes,) per split
        self._counts: list[int] = []
        self._negentropies: list[Tensor] = []  # Σ p log p of each picture
        self._probabilities: list[Tensor] = []

    @property
    def count(self) -> int:
        """How many pictures were added."""
        return sum(self._counts)

    def add(self, logits: Tensor) -> None:
        """Adds pictures by their logits (B, classes)."""
        if logits.dim() != 2 or logits.shape[1] != self.classes:
            raise OptionError(f"logits of shape {tuple(logits.shape)}; allowed: (pictures, {self.classes})")
        logs = logits.detach().to("cpu", torch.float64).log_softmax(dim=1)
        probabilities = logs.exp()
        self._negentropies.append((probabilities * logs).sum(dim=1))
        self._probabilities.append(probabilities.half())
        while len(probabilities):
            if not self._counts or self._counts[-1] == self.split:
                self._counts.append(0)
                self._sums.append(torch.zeros(self.classes, dtype=torch.float64))
            taken, probabilities = probabilities.tensor_split([self.split - self._counts[-1]])
            self._sums[-1] += taken.sum(dim=0)
            self._counts[-1] += len(taken)

    def value(self) -> float:
        """The score, at least 1. Raises OptionError where no picture was added."""
        return float(self._scores().mean())

    def influence(self) -> Tensor:
        """How much each picture moves the score, to first order: (N,), of mean 0.

        The score of a split is exp(mean of D(p ‖ q)), q its mean; to first order q's own change has no effect.
        """
        scores = self._scores()
        kept = torch.cat(self._probabilities)
        pulls, start = [], 0
        for i, (total, count) in enumerate(zip(self._sums, self._counts, strict=True)):
            logs = _log(total / count)
            divergences = torch.cat(self._negentropies)[start : start + count] - torch.cat(
                [block.double() @ logs for block in torch.split(kept[start : start + count], 1024)]
            )
            # the score is a mean over splits, the interval one over pictures: a short last split weighs more
            weight = self.count / (len(self._counts) * count)
            pulls.append(scores[i] * weight * (divergences - divergences.mean()))
            start += count
        return torch.cat(pulls)

    def _scores(self) -> Tensor:
        if not self._counts:
            raise OptionError("an Inception score of no pictures")
        entropies = torch.split(torch.cat(self._negentropies), self._counts)
        means = [total / count for total, count in zip(self._sums, self._counts, strict=True)]
        return torch.stack([(h.mean() - (q * _log(q)).sum()).exp() for h, q in zip(entropies, means, strict=True)])


def _log(probabilities: Tensor) -> Tensor:
    """The logarithm; of 0, which only ever multiplies 0, the smallest there is."""
    return probabilities.clamp_min(torch.finfo(torch.float64).tiny).log()
