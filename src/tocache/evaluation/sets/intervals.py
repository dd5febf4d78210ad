"""How uncertain a figure of a set is: a bootstrap over its pictures.

Drawing 50,000 pictures anew a thousand times and computing an FID of each would take hours, and would be wrong as
well: a bootstrap sample holds each picture several times, and FID grows with fewer distinct ones. What is drawn anew
is each picture's *influence* on the figure, its first-order term (Hampel 1974; the infinitesimal jackknife of Jaeckel
1972), so an interval stands around the figure itself. It covers the choice of the generated pictures; the reference
is taken as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tocache.evaluation.metrics import bootstrap_interval

_RANK = 1e-10  # eigenvalues below this share of the largest count as 0
_BLOCK = 2048


def interval_around(value: float, influence: Tensor, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of a figure by its pictures' influences (N,), which have mean 0."""
    low, high = bootstrap_interval(influence, resamples=resamples, seed=seed)
    return value + low, value + high


def frechet_influence(
    features: Tensor, mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> Tensor | None:
    """How much each of `features` (N, D) moves the Fréchet distance of its set to another, to first order: (N,).

    mean, covariance   of the set itself, (D,) and (D, D)

    With T = Σ^-½ (Σ^½ Σ' Σ^½)^½ Σ^-½, the linear map between the two Gaussians, the distance changes by
    2 (μ − μ')ᵀ dμ + tr((I − T) dΣ). None where the covariance has no full rank: the distance has no derivative there.
    """
    bent = _bend(covariance, other_covariance)
    if bent is None:
        return None
    pulls = []
    for block in torch.split(features, _BLOCK):
        apart = block.double() - mean
        pulls.append((apart @ bent * apart).sum(dim=1) + 2 * apart @ (mean - other_mean))
    influence = torch.cat(pulls)
    return influence - influence.mean()


def _bend(covariance: Tensor, other_covariance: Tensor) -> Tensor | None:
    """I − T; None without full rank. What is no longer needed is dropped: each matrix of 2048 features is 32 MiB."""
    values, vectors = torch.linalg.eigh(covariance)
    if values[0] <= _RANK * values[-1]:
        return None
    root = _rebuilt(vectors, values.sqrt())
    between = root @ other_covariance @ root
    del root
    inverse = _rebuilt(vectors, values.rsqrt())
    del vectors
    shared, axes = torch.linalg.eigh(between)
    del between
    middle = _rebuilt(axes, shared.clamp_min(0).sqrt())
    del axes
    optimal = inverse @ middle @ inverse
    return optimal.neg_().add_(torch.eye(len(optimal), dtype=optimal.dtype))


def _rebuilt(vectors: Tensor, values: Tensor) -> Tensor:
    """The symmetric matrix of these eigenvectors and eigenvalues."""
    return (vectors * values) @ vectors.T
