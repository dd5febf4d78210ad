"""The figures of a whole set against a reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.evaluation.metrics import frechet_of_moments
from tocache.evaluation.sets.collect import Collector
from tocache.evaluation.sets.extractors import POOL, SPATIAL, Extractor
from tocache.evaluation.sets.intervals import frechet_influence, interval_around
from tocache.evaluation.sets.manifold import manifold_radii, within
from tocache.evaluation.sets.reference import Reference
from tocache.evaluation.sets.report import FID, IS, PRECISION, RECALL, SFID, Figure

_OF = {FID: POOL, SFID: SPATIAL}


def set_figures(
    metrics: Sequence[str],
    collected: Collector,
    reference: Reference | None,
    extractor: Extractor,
    *,
    intervals: bool,
    device: torch.device,
) -> tuple[dict[str, Figure], dict[str, str]]:
    """The figures that `metrics` names, and why some are left out.

    Takes the features of single pictures out of `collected` once they have served.
    """
    figures: dict[str, Figure] = {}
    left_out: dict[str, str] = {}
    for name in sorted(metrics, key=(FID, PRECISION, RECALL, IS, SFID).index):
        if name in (IS, SFID):
            collected.kept.pop(POOL, None)  # 410 MB of 50,000 pictures; what follows needs room for itself
        try:
            if name == IS:
                figures[name] = _inception_score(collected, extractor, intervals)
            elif reference is None:
                left_out[name] = "compares with real pictures; --reference says which"
            elif name in _OF:
                figures[name] = _frechet(_OF[name], collected, reference, extractor, intervals)
            elif PRECISION not in figures and RECALL not in figures:
                both = _precision_and_recall(collected, reference, extractor, intervals, device)
                figures |= {one: both[one] for one in metrics if one in both}
        except OptionError as error:
            left_out[name] = str(error)
    return figures, left_out


def _frechet(kind: str, collected: Collector, reference: Reference, extractor: Extractor, intervals: bool) -> Figure:
    if kind not in collected.moments:
        raise OptionError(f"{extractor.name} gives no {kind} features")
    if kind not in reference.statistics:
        raise OptionError(f"{reference.path} has no statistics of {kind} features")
    own, (mean, covariance) = collected.moments[kind], reference.statistics[kind]
    value = frechet_of_moments(own.mean, own.covariance, mean, covariance)
    if own.count <= own.width:
        note = f"no interval: {own.count} pictures of {own.width} features leave the covariance without full rank"
        return Figure(value, None, None, own.count, note)
    if not intervals or kind not in collected.kept:
        return Figure(value, None, None, own.count)
    influence = frechet_influence(collected.kept[kind].features, own.mean, own.covariance, mean, covariance)
    if influence is None:
        return Figure(value, None, None, own.count, "no interval: the covariance has no full rank")
    return Figure(value, *interval_around(value, influence), own.count)


def _inception_score(collected: Collector, extractor: Extractor, intervals: bool) -> Figure:
    score = collected.score
    if score is None:
        raise OptionError(f"{extractor.name} gives no logits")
    value = score.value()
    low, high = interval_around(value, score.influence()) if intervals else (None, None)
    return Figure(value, low, high, score.count)


def _precision_and_recall(
    collected: Collector, reference: Reference, extractor: Extractor, intervals: bool, device: torch.device
) -> dict[str, Figure]:
    if POOL not in collected.kept:
        raise OptionError(f"{extractor.name} gives no {POOL} features")
    if reference.features is None:
        raise OptionError(f"{reference.path} has statistics but no pictures to make a manifold of")
    own, real = collected.kept[POOL].features, reference.features
    if own.shape[1] != real.shape[1]:
        raise OptionError(f"features of {own.shape[1]} and {real.shape[1]} channels cannot be compared")
    on = None if device.type == "cpu" else device
    precise = within(own, real, manifold_radii(real, device=on), device=on)
    recalled = within(real, own, manifold_radii(own, device=on), device=on)
    return {PRECISION: _share(precise, intervals), RECALL: _share(recalled, intervals)}


def _share(flags: Tensor, intervals: bool) -> Figure:
    """A share of pictures; the manifold that they were held against is taken as it is."""
    value = float(flags.double().mean())
    low, high = interval_around(value, flags.double() - value) if intervals else (None, None)
    return Figure(value, low, high, len(flags))
