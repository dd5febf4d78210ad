"""`evaluate`: one set of pictures against a reference, its prompts, and another set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tocache.errors import OptionError, UnknownNameError
from tocache.evaluation.metrics import bootstrap_interval
from tocache.evaluation.scores import EQUAL
from tocache.evaluation.sets.batches import batched, batched_pairs
from tocache.evaluation.sets.clip import DEFAULT, ClipScorer, load_clip
from tocache.evaluation.sets.collect import Collector
from tocache.evaluation.sets.extractors import INCEPTION, Extractor, load_extractor
from tocache.evaluation.sets.figures import set_figures
from tocache.evaluation.sets.pairs import Pairs, check_pairs
from tocache.evaluation.sets.pictures import PictureSet, open_pictures
from tocache.evaluation.sets.reference import MANIFOLD, Reference, load_reference, write_reference
from tocache.evaluation.sets.report import (
    CLIP,
    FID,
    IS,
    METRICS,
    OF_PAIRS,
    OF_SETS,
    PRECISION,
    PSNR,
    RECALL,
    SFID,
    Figure,
    Report,
    together,
)
from tocache.machine import about_machine, installed_version

Tell = Callable[[str, int, int], None]


def evaluate(
    samples: str | Path,
    *,
    reference: str | Path | None = None,
    against: str | Path | None = None,
    prompts: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    features: str = INCEPTION,
    clip: str = DEFAULT,
    square: int | None = None,
    manifold: int = MANIFOLD,
    intervals: bool = True,
    batch: int | None = None,
    device: str | None = None,
    fetch: bool = False,
    cache: Path | None = None,
    save_reference: Path | None = None,
    tell: Tell | None = None,
) -> Report:
    """Measures the pictures of `samples`, a folder, a folder of `tocache sample`, or an .npz.

    reference   real pictures or their statistics: FID, sFID, precision, recall
    against     another set with the same names, e.g. of the same seeds without a cache: PSNR, SSIM, LPIPS, judge
    prompts     one per picture, for the CLIP score; the default is what the folder's manifest says
    metrics     names of METRICS; the default is all that can be measured of what is given
    features    see `load_extractor`
    clip        see `load_clip`
    square      of the reference's pictures, see `open_pictures`
    manifold    so many of the reference's pictures make the manifold for precision and recall
    batch       pictures at once; by default 16 on a CPU, where Inception's activations of 64 take 1 GB, else 64
    fetch       let missing weights be downloaded
    cache       where the reference's statistics are kept between runs
    save_reference  write the samples as a reference, as ADM's evaluator reads it

    What cannot be measured stands in the report's `left_out`. Raises OptionError where nothing can be, where a name is
    not allowed, or where something that was given is not there.
    """
    found = open_pictures(samples)
    asked = _asked(metrics, reference, against)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch = (16 if where.type == "cpu" else 64) if batch is None else batch
    others = None if against is None else open_pictures(against)
    if others is not None:
        check_pairs(found, others)
    texts = _texts(found, prompts)
    if metrics is None and texts is not None:
        asked = (*asked, CLIP)
    left_out: dict[str, str] = {}
    extractor = _extractor(features, asked, where, fetch, save_reference is not None, left_out)
    scorer = _scorer(clip, asked, texts, where, fetch, left_out)
    pairs = _pairs(asked, others, left_out)
    real = None
    if extractor is not None and reference is not None and {FID, SFID, PRECISION, RECALL} & set(asked):
        wanted = manifold if {PRECISION, RECALL} & set(asked) else 0
        real = load_reference(reference, extractor, manifold=wanted, square=square, batch=batch, cache=cache, tell=tell)
    keep_pool = bool({PRECISION, RECALL} & set(asked)) or (intervals and FID in asked)
    collector = Collector(
        len(found), pool=keep_pool and real is not None, spatial=intervals and SFID in asked and real is not None
    )
    if extractor is None and scorer is None and pairs is None:
        raise OptionError(
            "nothing can be measured: " + "; ".join(f"{names}: {why}" for names, why in together(left_out))
        )
    size, scores = _go(found, others, collector, extractor, scorer, texts, pairs, batch, tell)
    figures: dict[str, Figure] = {}
    if extractor is not None:
        of_sets = [name for name in asked if name in OF_SETS]
        more, why = set_figures(of_sets, collector, real, extractor, intervals=intervals, device=where)
        figures |= more
        left_out |= why
        if save_reference is not None:
            write_reference(collector, found, save_reference)
    if scores:
        figures[CLIP] = _mean(torch.cat(scores), intervals)
    if pairs is not None:
        figures |= {name: _mean(values, intervals) for name, values in pairs.values().items()}
        left_out |= pairs.left_out
        if pairs.equal and PSNR in figures:
            note = f"{pairs.equal} of {len(found)} pairs are equal and count as {EQUAL:g} dB"
            figures[PSNR] = replace(figures[PSNR], note=note)
    order = {name: i for i, name in enumerate(METRICS)}
    return Report(
        figures={name: figures[name] for name in sorted(figures, key=order.__getitem__)},
        left_out={name: left_out[name] for name in sorted(left_out, key=order.__getitem__)},
        notes=_notes(found, size, real, figures),
        about=_about(found, others, real, extractor, scorer, size, where),
    )


def _asked(metrics: Sequence[str] | None, reference: object, against: object) -> tuple[str, ...]:
    if metrics is not None:
        for name in metrics:
            if name not in METRICS:
                raise UnknownNameError.of("metric", name, METRICS)
        return tuple(dict.fromkeys(metrics))
    return (
        *(OF_SETS if reference is not None else (IS,) if against is None else ()),
        *(OF_PAIRS if against is not None else ()),
    )


def _texts(found: PictureSet, prompts: Sequence[str] | None) -> Sequence[str] | None:
    """A prompt per picture; None where they are not known or are numbers of classes."""
    given = found.prompts if prompts is None else prompts
    if given is None or not all(isinstance(prompt, str) for prompt in given):
        return None
    if len(given) != len(found):
        raise OptionError(f"{len(given)} prompts for {len(found)} pictures; allowed: one for each, in their order")
    return [str(prompt) for prompt in given]


def _extractor(
    features: str, asked: Sequence[str], device: torch.device, fetch: bool, needed: bool, left_out: dict[str, str]
) -> Extractor | None:
    of_sets = [name for name in asked if name in OF_SETS]
    if not of_sets and not needed:
        return None
    try:
        return load_extractor(features, device=device, fetch=fetch)
    except OptionError as error:
        if features != INCEPTION or needed:
            raise
        left_out |= dict.fromkeys(of_sets, str(error))
        return None


def _scorer(
    clip: str,
    asked: Sequence[str],
    texts: Sequence[str] | None,
    device: torch.device,
    fetch: bool,
    left_out: dict[str, str],
) -> ClipScorer | None:
    if CLIP not in asked:
        return None
    if texts is None:
        left_out[CLIP] = (
            "no texts are known that the pictures were drawn from; --prompts gives a file with one for each"
        )
        return None
    try:
        return load_clip(clip, device=device, fetch=fetch)
    except OptionError as error:
        left_out[CLIP] = str(error)
        return None


def _pairs(asked: Sequence[str], others: PictureSet | None, left_out: dict[str, str]) -> Pairs | None:
    names = [name for name in asked if name in OF_PAIRS]
    if names and others is None:
        left_out |= dict.fromkeys(names, "pairs pictures with others; --against says which")
    return Pairs(names) if names and others is not None else None


def _go(
    found: PictureSet,
    others: PictureSet | None,
    collector: Collector,
    extractor: Extractor | None,
    scorer: ClipScorer | None,
    texts: Sequence[str] | None,
    pairs: Pairs | None,
    batch: int,
    tell: Tell | None,
) -> tuple[tuple[int, int] | None, list[Tensor]]:
    """Every picture once, for all measures; the size that all have, and the CLIP scores."""
    sizes: set[tuple[int, int]] = set()
    scores: list[Tensor] = []
    done = 0
    paired = pairs is not None and others is not None
    stream = (
        batched_pairs(found, others, found.names, batch)
        if paired and others is not None
        else ((group, None) for group in batched(found, batch))
    )
    for group, other in stream:
        sizes.add((group.shape[-2], group.shape[-1]))
        if extractor is not None:
            collector.add(extractor.extract(group))
        if scorer is not None and texts is not None:
            scores.append(scorer.score(group, texts[done : done + len(group)]))
        if pairs is not None and other is not None:
            pairs.add(group, other)
        done += len(group)
        if tell is not None:
            tell("samples", done, len(found))
    return sizes.pop() if len(sizes) == 1 else None, scores


def _mean(values: Tensor, intervals: bool) -> Figure:
    low, high = bootstrap_interval(values) if intervals else (None, None)
    return Figure(float(values.mean()), low, high, len(values))


def _notes(
    found: PictureSet, size: tuple[int, int] | None, real: Reference | None, figures: dict[str, Figure]
) -> tuple[str, ...]:
    notes = list(real.notes) if real is not None else []
    if size is None:
        notes.append("the samples differ in size")
    if real is not None and size is not None and real.size not in (None, size):
        sizes = [f"{wide} × {high}" for high, wide in (real.size or size, size)]
        notes.append(
            f"the reference's pictures are {sizes[0]} pixels, the samples {sizes[1]}; --square prepares the former"
        )
    if real is not None and real.pictures is not None and real.size is None:
        notes.append("the reference's pictures differ in size; --square cuts them to one")
    if FID in figures and len(found) < 10_000:
        notes.append(f"FID of {len(found):,} pictures lies above that of more; published ones are of 30,000 or 50,000")
    return tuple(notes)


def _about(
    found: PictureSet,
    others: PictureSet | None,
    real: Reference | None,
    extractor: Extractor | None,
    scorer: ClipScorer | None,
    size: tuple[int, int] | None,
    device: torch.device,
) -> dict[str, Any]:
    about: dict[str, Any] = {"samples": {"path": str(found.path), "pictures": len(found), "size": size}}
    if real is not None:
        about["reference"] = {
            "path": str(real.path),
            "pictures": real.pictures,
            "manifold": None if real.features is None else len(real.features),
            "size": real.size,
        }
    if others is not None:
        about["against"] = str(others.path)
    if extractor is not None:
        about["features"] = {"name": extractor.name, "digest": extractor.digest}
    if scorer is not None:
        about["clip"] = scorer.name
    about |= about_machine(device)
    about["versions"] |= {
        name: installed_version(name) for name in ("torch-fidelity", "open_clip_torch", "torchvision")
    }
    return about
