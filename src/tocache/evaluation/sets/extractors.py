"""What turns pictures into features: Inception, the demos' judge, or any callable."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tocache.errors import OptionError

INCEPTION, JUDGE = "inception", "judge"
POOL, SPATIAL, LOGITS = "pool", "spatial", "logits"
KINDS = (POOL, SPATIAL, LOGITS)
"""What each metric reads: `pool` FID, precision and recall; `spatial` sFID; `logits` the Inception score."""


@dataclass(frozen=True)
class Extractor:
    """name     how a report calls it
    extract  (B, 3, H, W) float32 in [0, 1] → features by kind: (B, D), or (B, classes) for `logits`
    digest   of what decides the features; statistics are cached under it
    """

    name: str
    extract: Callable[[Tensor], Mapping[str, Tensor]]
    digest: str


def load_extractor(name: str, *, device: torch.device | None = None, fetch: bool = False) -> Extractor:
    """`inception` (torch-fidelity's), `judge` (the demos', offline), or `module:callable`.

    A callable takes pictures (B, 3, H, W), float32 in [0, 1], and gives features (B, D), or a mapping with some of
    `pool`, `spatial` and `logits`. Its module is looked for in the working folder, too. Statistics of references are
    cached by the source of its module; where weights may change under it, give the callable an attribute `digest`, a
    string that changes with them.

    fetch   lets Inception's weights be downloaded

    Raises OptionError where the name means nothing, or weights are missing.
    """
    where = device or torch.device("cpu")
    if name == INCEPTION:
        from tocache.evaluation.sets.inception import load_inception

        return load_inception(where, fetch=fetch)
    if name == JUDGE:
        return _judge()
    if ":" not in name:
        raise OptionError(f"features={name!r} is not allowed; allowed: {INCEPTION}, {JUDGE}, or module:callable")
    return _injected(name, where)


def _judge() -> Extractor:
    from tocache.demo.judge import WEIGHTS, pooled_features

    def extract(pictures: Tensor) -> Mapping[str, Tensor]:
        return {POOL: pooled_features(pictures.cpu())}

    return Extractor(JUDGE, extract, hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16])


def _injected(name: str, device: torch.device) -> Extractor:
    module_name, _, attribute = name.partition(":")
    try:
        module = _imported(module_name)
    except ImportError as error:
        raise OptionError(f"features={name!r}: {module_name} cannot be imported: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise OptionError(f"features={name!r}: {module_name} has no callable {attribute!r}")

    @torch.inference_mode()
    def extract(pictures: Tensor) -> Mapping[str, Tensor]:
        given = found(pictures.to(device))
        return checked(given if isinstance(given, Mapping) else {POOL: given}, len(pictures), name)

    return Extractor(name, extract, f"{name}-{getattr(found, 'digest', None) or _source_digest(module)}")


def checked(features: Mapping[str, Any], count: int, name: str) -> dict[str, Tensor]:
    """`features` where each is a tensor (count, D) of a known kind. Raises OptionError otherwise."""
    for kind, values in features.items():
        if kind not in KINDS:
            raise OptionError(f"features={name!r} gave {kind!r}; allowed: {', '.join(KINDS)}")
        if not isinstance(values, Tensor) or values.dim() != 2 or len(values) != count:
            what = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise OptionError(f"features={name!r} gave {what} for {count} pictures; allowed: ({count}, D) tensors")
    return dict(features)


def _imported(name: str) -> Any:
    """The module, also where it lies in the working folder: a console script does not look there."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _source_digest(module: Any) -> str:
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return "unknown"
