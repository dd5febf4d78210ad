"""A small feature extractor for tests of sets: fixed waves over 8 × 8 pictures, the same in every run.

As a script it writes what torch-fidelity measures with it: `python tiny.py data/torch_fidelity.json`. That needs
`torch-fidelity` 0.4 and a torchvision that fits the installed torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDTH, SPATIAL, CLASSES = 12, 6, 10
SIDE = 8


def waves(rows: int, columns: int, phase: float) -> Tensor:
    """(rows, columns) of cosines."""
    return torch.cos(torch.arange(rows)[:, None] * (torch.arange(columns)[None, :] + 1) * 0.37 + phase).double()


def extract(pictures: Tensor) -> dict[str, Tensor]:
    """(B, 3, 8, 8) in [0, 1] → all three kinds of feature, float32."""
    flat = pictures.flatten(1).double()  # (B, 192)
    pool = torch.tanh(flat @ waves(flat.shape[1], WIDTH, 0.0) / 4)
    spatial = flat @ waves(flat.shape[1], SPATIAL, 1.0) / 8
    logits = pool @ waves(WIDTH, CLASSES, 2.0)
    return {"pool": pool.float(), "spatial": spatial.float(), "logits": logits.float()}


def pool_only(pictures: Tensor) -> Tensor:
    return extract(pictures)["pool"]


def pictures(count: int, seed: int, tint: float = 0.0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(count, 8, 8, 3) uint8: coloured gradients with noise."""
    dice = np.random.default_rng(seed)
    colour, tilt = dice.uniform(0, 1, (count, 1, 1, 3)), dice.normal(0, 0.3, (count, 1, 1, 2))
    places = np.linspace(-1, 1, SIDE)
    slope = tilt[..., :1] * places[:, None, None] + tilt[..., 1:] * places[None, :, None]
    noise = dice.normal(0, 0.05, (count, SIDE, SIDE, 3))
    return (np.clip(colour + slope + noise + tint, 0, 1) * 255).round().astype(np.uint8)


SAMPLES, REFERENCE = {"count": 600, "seed": 0, "tint": 0.05}, {"count": 500, "seed": 1}
SPLITS = 3


def measure() -> dict[str, float]:
    """FID, Inception score, precision and recall of SAMPLES against REFERENCE, by torch-fidelity."""
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Tiny(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "pool", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return {"isc": "logits", "fid": "pool", "prc": "pool"}[metric]

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
            found = extract(batch.float() / 255)
            return tuple(found[name] for name in self.features_list)

    class Set(torch.utils.data.Dataset[Tensor]):
        def __init__(self, **options: Any) -> None:
            self.pictures = torch.from_numpy(pictures(**options)).movedim(-1, 1)

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, index: int) -> Tensor:
            return self.pictures[index]

    torch_fidelity.register_feature_extractor("tiny", Tiny)
    found = torch_fidelity.calculate_metrics(
        input1=Set(**SAMPLES),
        input2=Set(**REFERENCE),
        feature_extractor="tiny",
        **{"fid": True, "isc": True, "prc": True, "isc_splits": SPLITS, "samples_shuffle": False},
        **{"cuda": False, "cache": False, "verbose": False, "save_cpu_ram": True, "batch_size": 50},
    )
    names = ("frechet_inception_distance", "inception_score_mean", "precision", "recall")
    return {name: float(found[name]) for name in names}


if __name__ == "__main__":
    figures = measure()
    Path(sys.argv[1]).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(figures)
