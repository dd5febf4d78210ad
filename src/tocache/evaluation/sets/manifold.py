"""Improved precision and recall (Kynkäänniemi et al., arXiv 1904.06991), block by block.

A set's manifold is the union of balls around its pictures' features, each reaching to its k-th nearest other picture.
Precision is the share of generated pictures within the real ones' manifold, recall the share of real pictures within
the generated ones'. ADM's evaluator takes k = 3 and 10,000 real pictures. It computes distances in half precision
where they fit; here they are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tocache.errors import OptionError

NEIGHBOURS = 3
"""k, as in the paper and in ADM's evaluator."""

_BLOCK = 2048  # rows and columns of one block of distances: 16 MiB


def manifold_radii(features: Tensor, *, neighbours: int = NEIGHBOURS, device: torch.device | None = None) -> Tensor:
    """Squared distance of each of `features` (N, D) to its k-th nearest other one: (N,) float32.

    Raises OptionError where there are not more than `neighbours` features.
    """
    if len(features) <= neighbours:
        raise OptionError(f"the manifold of {len(features)} pictures; allowed: more than {neighbours}")
    radii = []
    blocks = torch.split(features if device is None else features.to(device), _BLOCK)
    for rows in blocks:
        nearest = torch.full((len(rows), 0), torch.inf, device=rows.device)
        for columns in blocks:
            found = torch.cat([nearest, _squared_distances(rows, columns)], dim=1)
            keep = min(neighbours + 1, found.shape[1])  # one more, which is the row itself
            nearest = found.topk(keep, dim=1, largest=False).values
        radii.append(nearest[:, neighbours].cpu())
    return torch.cat(radii)


def within(features: Tensor, others: Tensor, other_radii: Tensor, *, device: torch.device | None = None) -> Tensor:
    """Whether each of `features` (N, D) lies in a ball around one of `others` (M, D): (N,) bool.

    other_radii   squared, as `manifold_radii` gives them: (M,)
    """
    on = features.device if device is None else device
    balls = list(zip(torch.split(others.to(on), _BLOCK), torch.split(other_radii.to(on), _BLOCK), strict=True))
    inside = []
    for rows in torch.split(features.to(on), _BLOCK):
        found = torch.zeros(len(rows), dtype=torch.bool, device=on)
        for columns, radii in balls:
            found |= (_squared_distances(rows, columns) <= radii).any(dim=1)
        inside.append(found.cpu())
    return torch.cat(inside)


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """(A, D), (B, D) → (A, B), at least 0."""
    rows, columns = rows.float(), columns.float()
    middle = columns.mean(dim=0)  # distances do not change with it, and smaller numbers lose fewer digits
    rows, columns = rows - middle, columns - middle
    norms = rows.square().sum(dim=1)[:, None] + columns.square().sum(dim=1)[None, :]
    return torch.addmm(norms, rows, columns.T, alpha=-2).clamp_min_(0)
