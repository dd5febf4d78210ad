"""Everything that is kept of a set's features while its pictures go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tocache.evaluation.sets.extractors import LOGITS, POOL, SPATIAL
from tocache.evaluation.sets.inception_score import InceptionScore
from tocache.evaluation.sets.moments import Moments


@dataclass
class Kept:
    """Features of single pictures, for manifolds and intervals.

    Of 50,000 pictures Inception's pooled features are 410 MB in float32, and its spatial ones, which serve nothing
    but the interval of sFID, 202 MB in half precision.
    """

    dtype: torch.dtype
    rows: int
    filled: int = 0
    block: Tensor | None = None

    def add(self, features: Tensor) -> None:
        if self.block is None:
            self.block = torch.empty(self.rows, features.shape[1], dtype=self.dtype)
        self.block[self.filled : self.filled + len(features)] = features.to("cpu", self.dtype)
        self.filled += len(features)

    @property
    def features(self) -> Tensor:
        """(N, D)"""
        return torch.empty(0, 0) if self.block is None else self.block[: self.filled]


@dataclass
class Collector:
    """Moments, the Inception score, and single features where they are needed.

    count          pictures to come
    pool, spatial  keep the features of single pictures
    """

    count: int
    pool: bool = True
    spatial: bool = True
    moments: dict[str, Moments] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    score: InceptionScore | None = None

    def add(self, features: Mapping[str, Tensor]) -> None:
        """Adds pictures by their features. Raises OptionError where these are not finite or change their width."""
        for kind in (POOL, SPATIAL):
            if kind not in features:
                continue
            rows = features[kind]
            if kind not in self.moments:
                self.moments[kind] = Moments(rows.shape[1])
            self.moments[kind].add(rows)
            if self.pool if kind == POOL else self.spatial:
                dtype = torch.float32 if kind == POOL else torch.float16
                self.kept.setdefault(kind, Kept(dtype, self.count)).add(rows)
        if LOGITS in features:
            if self.score is None:
                self.score = InceptionScore(features[LOGITS].shape[1])
            self.score.add(features[LOGITS])
