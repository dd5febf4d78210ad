"""References: real pictures, or their statistics; computed once, then read from a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.sets.batches import batched
from tocache.evaluation.sets.collect import Collector, Kept
from tocache.evaluation.sets.extractors import INCEPTION, POOL, SPATIAL, Extractor
from tocache.evaluation.sets.moments import Moments
from tocache.evaluation.sets.npz import PICTURES, STATISTICS, arrays_of, read_array, write_npz
from tocache.evaluation.sets.pictures import PictureSet, open_pictures, spread

MANIFOLD = 10_000
"""Real pictures of which the manifold is made, as in ADM's reference files."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reference:
    """statistics   mean (D,) and covariance (D, D), float64, by kind of feature
    features     pooled features of the pictures that make the manifold, (M, D) float32; None where there are none
    pictures     how many the statistics are of; None where a file does not say
    size         height and width of the pictures, where they have one
    """

    path: Path
    statistics: Mapping[str, tuple[Tensor, Tensor]]
    features: Tensor | None
    pictures: int | None
    size: tuple[int, int] | None = None
    cached: bool = False
    notes: tuple[str, ...] = ()


def cache_folder() -> Path:
    """Where statistics of references are kept: $XDG_CACHE_HOME/tocache/references, by default in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tocache" / "references"


def load_reference(
    path: str | Path,
    extractor: Extractor,
    *,
    manifold: int = MANIFOLD,
    square: int | None = None,
    batch: int = 64,
    cache: Path | None = None,
    tell: Tell | None = None,
) -> Reference:
    """The reference at `path`: a folder of pictures, or an .npz with pictures, statistics, or both, as ADM's have.

    Statistics that a file brings along are taken; they must be of `extractor`'s features. Others are computed from its
    pictures, and kept in `cache` under a key of the pictures' contents and the extractor.

    manifold   so many pictures at most, evenly spaced, give features for precision and recall; 0 for none

    Raises OptionError where the file holds neither, or its statistics are of features of another width.
    """
    path = Path(path)
    brought = _brought(path) if path.is_file() else {}
    arrays = arrays_of(path) if path.is_file() else {}
    if path.is_file() and not brought and PICTURES not in arrays:
        raise OptionError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; allowed: {PICTURES}, mu and sigma")
    notes: tuple[str, ...] = ()
    if brought and extractor.name != INCEPTION:
        notes = (f"the reference's statistics were taken to be of the features {extractor.name!r}; it does not say",)
    if brought and (PICTURES not in arrays or manifold == 0):
        return Reference(path, brought, None, None, notes=notes)
    pictures = open_pictures(path, square=square)
    computed = _cached(pictures, extractor, spread(len(pictures), manifold), bool(brought), batch, cache, tell)
    if not brought:
        return computed
    for kind, (mean, _) in brought.items():
        own = computed.features
        if kind == POOL and own is not None and own.shape[1] != len(mean):
            raise OptionError(
                f"{path}: its statistics are of {len(mean)} features, {extractor.name} gives {own.shape[1]}"
            )
    return Reference(path, brought, computed.features, None, computed.size, computed.cached, notes)


def write_reference(collected: Collector, pictures: PictureSet, file: Path, *, limit: int = MANIFOLD) -> None:
    """Writes statistics, and at most `limit` of the pictures, evenly spaced, as ADM's evaluator reads them.

    Raises OptionError where pictures differ in size, or the file cannot be written.
    """
    chosen = spread(len(pictures), limit)
    first = next(pictures.at(chosen[:1]))
    arrays = _as_arrays({kind: (m.mean, m.covariance) for kind, m in collected.moments.items()})
    height, width = first.shape[:2]
    write_npz(file, arrays, pictures.at(chosen), (len(chosen), height, width, 3))


def _brought(file: Path) -> dict[str, tuple[Tensor, Tensor]]:
    arrays = arrays_of(file)
    found = {}
    for kind, mean, covariance in STATISTICS:
        if mean in arrays and covariance in arrays:
            one, other = (torch.from_numpy(read_array(file, name)).double() for name in (mean, covariance))
            if one.dim() != 1 or other.shape != (len(one), len(one)):
                raise OptionError(f"{file}: {mean} {tuple(one.shape)} and {covariance} {tuple(other.shape)} do not fit")
            found[kind] = (one, other)
    return found


def _cached(
    pictures: PictureSet,
    extractor: Extractor,
    chosen: Sequence[int],
    known: bool,
    batch: int,
    cache: Path | None,
    tell: Tell | None,
) -> Reference:
    """`_measured`, or what it found before of the same contents."""
    if cache is None:
        return _measured(pictures, extractor, chosen, known, batch, tell)
    key = f"{pictures.digest()}-{extractor.digest}-{len(chosen)}{'-manifold' if known else ''}"
    file = cache / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in key)}.npz"
    if file.is_file():
        return _read_cached(file, pictures.path)
    found = _measured(pictures, extractor, chosen, known, batch, tell)
    _write_cached(file, found)
    return found


def _measured(
    pictures: PictureSet, extractor: Extractor, chosen: Sequence[int], known: bool, batch: int, tell: Tell | None
) -> Reference:
    """Statistics of all pictures, unless they are `known`, and pooled features of those that are `chosen`."""
    moments: dict[str, Moments] = {}
    manifold, wanted = Kept(torch.float32, len(chosen)), set(chosen)
    numbers = list(chosen) if known else list(range(len(pictures)))
    sizes: set[tuple[int, int]] = set()
    done = 0
    for group in batched(pictures.at(chosen) if known else pictures, batch):
        sizes.add((group.shape[-2], group.shape[-1]))
        features = extractor.extract(group)
        for kind, rows in features.items():
            if kind in (POOL, SPATIAL) and not known:
                moments.setdefault(kind, Moments(rows.shape[1])).add(rows)
        members = [i for i in range(len(group)) if numbers[done + i] in wanted]
        if members and POOL in features:
            manifold.add(features[POOL][members])
        done += len(group)
        if tell is not None:
            tell("reference", done, len(numbers))
    return Reference(
        pictures.path,
        {kind: (found.mean, found.covariance) for kind, found in moments.items()},
        manifold.features if manifold.filled else None,
        None if known else len(pictures),
        sizes.pop() if len(sizes) == 1 else None,
    )


def _as_arrays(statistics: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for kind, mean, covariance in STATISTICS:
        if kind in statistics:
            arrays[mean], arrays[covariance] = (x.numpy() for x in statistics[kind])
    return arrays


def _write_cached(file: Path, found: Reference) -> None:
    arrays = _as_arrays(found.statistics)
    if found.features is not None:
        arrays["features"] = found.features.numpy()
    arrays["about"] = np.array([found.pictures or 0, *(found.size or (0, 0))], dtype=np.float64)
    write_npz(file, arrays)


def _read_cached(file: Path, path: Path) -> Reference:
    arrays = arrays_of(file)
    about = [int(number) for number in read_array(file, "about")]
    features = torch.from_numpy(read_array(file, "features")) if "features" in arrays else None
    size = (about[1], about[2]) if about[1] else None
    return Reference(path, _brought(file), features, about[0] or None, size, cached=True)
