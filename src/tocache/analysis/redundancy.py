"""How far features move from step to step, token by token (what ToCa, arXiv 2410.05317, shows in its figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tocache.analysis.files import Row, write_table
from tocache.analysis.subject import Subject
from tocache.methods import Uncached
from tocache.plan.anatomy import Site

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = np.geomspace(0.05, 20, 61)
"""Edges of the bins of `Redundancy.counts`: distances as multiples of their mean."""

_PASSED = 2_000_000  # values that are sorted for quantiles; torch.quantile takes no more than 2^24

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Redundancy:
    """Distances ‖x_s − x_{s−1}‖ of the tokens' features from step to step, divided by the mean of ‖x_{s−1}‖.

    sites      where the features are taken
    mean       (steps − 1, sites) mean over tokens, rows and passes; row 0 is step 1
    quantiles  (steps − 1, sites, 5) of the distances as multiples of their row's mean, at QUANTILES
    counts     (steps − 1, sites, 60) tokens by the same multiple, in BINS; those beyond either end are in the last bin
               there. Rows in which nothing moved have no multiples
    """

    about: dict[str, Any]
    sites: tuple[Site, ...]
    mean: Floats
    quantiles: Floats
    counts: NDArray[np.int64]

    @property
    def spread(self) -> Floats:
        """(steps − 1, sites) how unlike a row's tokens are: the distance that 5% exceed ÷ that 5% fall short of."""
        low, high = self.quantiles[..., 0], self.quantiles[..., -1]
        spread: Floats = high / np.maximum(low, 1e-12)
        return spread

    def rows(self) -> list[Row]:
        """One row per step and site."""
        return [
            {
                "step": step + 1,
                "site": site.name,
                "kind": site.kind,
                "group": site.group,
                "stack": site.stack,
                "block": site.block,
                "mean": _short(self.mean[step, i]),
                **{f"p{q * 100:.0f}": _short(self.quantiles[step, i, k]) for k, q in enumerate(QUANTILES)},
            }
            for step in range(len(self.mean))
            for i, site in enumerate(self.sites)
        ]

    def save(self, path: Path) -> None:
        """Writes the rows as CSV. Raises OptionError where that fails."""
        write_table(path, self.rows(), self.about)

    def draw(self, path: Path) -> None:
        """Writes the picture. Raises OptionError without matplotlib, or where it cannot be written."""
        from tocache.analysis.pictures.redundancy import draw_redundancy

        draw_redundancy(self, path)


def redundancy(subject: Subject) -> Redundancy:
    """Measures one uncached run: how far each site's feature moves from each step to the next."""
    before: dict[tuple[int, str], Tensor] = {}
    found: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}

    def note(step: int, number: int, site: str, value: Tensor) -> None:
        last, before[number, site] = before.get((number, site)), value
        if last is None or last.shape != value.shape:
            return
        moved = torch.linalg.vector_norm(value.float() - last.float(), dim=-1)  # (rows, tokens)
        long = torch.linalg.vector_norm(last.float(), dim=-1).mean(dim=1, keepdim=True)
        average = moved.mean(dim=1, keepdim=True)
        times = (moved / average)[average[:, 0] > 0]
        pair = ((moved / long.clamp_min(1e-30)).flatten().cpu(), times.flatten().cpu())
        found.setdefault((step, site), []).append(pair)
        if number == 0 and site == first:
            subject.tell("uncached", step, total)

    first, total = "", 0

    def begin(forward: Any) -> Any:
        nonlocal first, total
        first, total = forward.plan.sites[0].name, forward.steps
        return forward.make()

    drawn = subject.draw(Uncached(), on_output=note, on_forward=begin)
    sites, steps = drawn.plan.sites, drawn.plan.steps
    mean = np.zeros((steps - 1, len(sites)))
    quantiles = np.zeros((steps - 1, len(sites), len(QUANTILES)))
    counts = np.zeros((steps - 1, len(sites), len(BINS) - 1), dtype=np.int64)
    for (step, name), pairs in found.items():
        i = drawn.plan.anatomies[0].index[name]
        distances = torch.cat([distance for distance, _ in pairs])
        mean[step - 1, i] = float(distances.mean())
        times = _some(torch.cat([multiple for _, multiple in pairs]))
        quantiles[step - 1, i] = np.quantile(times, QUANTILES) if len(times) else 1.0
        counts[step - 1, i] = np.histogram(times.clip(BINS[0], BINS[-1]), BINS)[0]
    subject.tell("done", steps, steps)
    return Redundancy(subject.about(drawn, "redundancy"), sites, mean, quantiles, counts)


def _some(values: Tensor) -> Any:
    """All values, or so many of them at even distances that sorting them takes no time."""
    return values[:: max(1, -(-len(values) // _PASSED))].numpy()


def _short(value: float) -> float:
    return float(f"{value:.5g}")
