"""What an evaluation found, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tocache.errors import OptionError

VERSION = 1

FID, SFID, IS, PRECISION, RECALL = "fid", "sfid", "is", "precision", "recall"
CLIP, PSNR, SSIM, LPIPS, JUDGE = "clip", "psnr", "ssim", "lpips", "judge"
OF_SETS = (FID, SFID, IS, PRECISION, RECALL)
OF_PAIRS = (PSNR, SSIM, LPIPS, JUDGE)
METRICS = (*OF_SETS, CLIP, *OF_PAIRS)
FALLING = (FID, SFID, LPIPS, JUDGE)
"""Metrics of which less is better."""


@dataclass(frozen=True)
class Figure:
    """One metric of the samples.

    low, high   its 95% interval by bootstrap over pictures; None where there is none, and `note` says why
    pictures    how many it is of
    """

    value: float
    low: float | None
    high: float | None
    pictures: int
    note: str = ""


@dataclass(frozen=True)
class Report:
    """figures    by metric
    left_out   by metric, why it could not be measured
    notes      what should be known about the figures
    imported   by tool, what it found in its own environment
    about      the sets, the extractor, the machine, the command
    """

    figures: Mapping[str, Figure] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    imported: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def together(left_out: Mapping[str, str]) -> list[tuple[str, str]]:
    """(metrics, why) with the metrics put together that share a reason: ("fid, sfid", "…")."""
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    return [(", ".join(names), why) for why, names in reasons.items()]


def write_report(report: Report, file: Path) -> None:
    """Writes `report` as JSON. Raises OptionError where that fails."""
    content = {"tocache_report": VERSION, **asdict(report)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{file}: cannot be written: {error.strerror or error}") from error


def read_report(file: Path) -> Report:
    """A report that `write_report` wrote. Raises OptionError where `file` is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{file}: cannot be read: {error}") from error
    if not isinstance(content, dict) or content.pop("tocache_report", None) != VERSION:
        raise OptionError(f"{file}: not a report of `tocache evaluate`, or one of another version")
    try:
        figures = {name: Figure(**values) for name, values in content.pop("figures").items()}
        return Report(figures, notes=tuple(content.pop("notes")), **content)
    except (TypeError, KeyError, AttributeError) as error:
        raise OptionError(f"{file}: not a whole report: {error}") from error
