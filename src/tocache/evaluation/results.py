"""What a benchmark found: rows, curves at the points, and the files that hold them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.contenders import OURS, REFERENCE, STEPS
from tocache.evaluation.frontier import AtPoint, interpolate

JUDGE_LOSS, SSIM_LOSS = "judge_distance", "one_minus_ssim"
LOSSES = (JUDGE_LOSS, SSIM_LOSS)
"""The paired losses of the curves: 0 for the uncached picture, smaller is better."""

BY_FLOPS, BY_LATENCY = "flops_ratio", "loop_speedup"

Figure = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One setting, measured. Ratios and speed-ups are uncached ÷ this one; seconds are of one batch.

    flops_ratio       by `torch.utils.flop_counter` over the transformer's forwards, for every row alike
    planned_ratio     by the plan, as the published tables count; None for peers
    loop_speedup      median over batches of the uncached loop's seconds ÷ this one's in the same round
    paired            by metric: mean, low and high of the 95% interval over pictures
    shown             attributes: share of claims that hold, share of prompts of which all hold
    failed            why it could not run or be measured
    """

    curve: str
    setting: str
    kind: str
    source: str = ""
    pictures: int = 0
    flops: float | None = None
    flops_ratio: float | None = None
    planned_ratio: float | None = None
    counted_batches: int = 0
    loop_seconds: Figure | None = None  # p20, p50, p80
    total_seconds: Figure | None = None
    loop_speedup: float | None = None
    total_speedup: float | None = None
    realised_over_flops: float | None = None
    cache_bytes: int | None = None
    device_bytes: int | None = None  # the most that CUDA's allocator held during a call
    paired: dict[str, Figure | None] = field(default_factory=dict)
    shown: dict[str, Figure | None] = field(default_factory=dict)
    frechet: float | None = None
    note: str = ""
    failed: str = ""

    def loss(self, name: str) -> float | None:
        """One of LOSSES; None where it was not measured."""
        if self.kind == REFERENCE:
            return 0.0
        if name == SSIM_LOSS:
            ssim = self.paired.get("ssim")
            return None if ssim is None else 1 - ssim["mean"]
        figure = self.paired.get(name)
        return None if figure is None else figure["mean"]


@dataclass(frozen=True)
class Results:
    """A whole benchmark."""

    about: dict[str, Any]  # model, prompts, points, machine, versions, commit, command, time
    rows: tuple[Row, ...]
    by_picture: dict[str, dict[str, list[float]]]  # "curve: setting" → metric → one number per picture
    interrupted: bool = False

    @property
    def reference(self) -> Row | None:
        """The uncached row; None where nothing was measured."""
        return next((row for row in self.rows if row.kind == REFERENCE), None)

    @property
    def pictures(self) -> int:
        """How many each contender drew: fewer than were asked for after an interruption."""
        return 0 if self.reference is None else self.reference.pictures

    def curves(self) -> list[str]:
        """Names of the curves that were measured, in the order in which they ran."""
        return list(dict.fromkeys(row.curve for row in self.rows if row.kind != REFERENCE and not row.failed))

    def curve(self, name: str, loss: str, by: str) -> list[tuple[float, float]]:
        """(speed-up, loss) of a curve's rows. Fewer steps and our methods begin at the uncached picture: (1, 0)."""
        rows = [row for row in self.rows if row.curve == name and not row.failed]
        found = [(x, y) for row in rows if (x := getattr(row, by)) is not None and (y := row.loss(loss)) is not None]
        exact = rows and (rows[0].kind == OURS or (rows[0].kind == STEPS and name == "fewer-steps"))
        return [(1.0, 0.0), *found] if found and exact else found

    def at_points(self, loss: str, by: str) -> dict[str, list[AtPoint]]:
        """By curve, what it says at each of the benchmark's points."""
        curves = {name: self.curve(name, loss, by) for name in self.curves()}
        return {name: [interpolate(c, point) for point in self.about["points"]] for name, c in curves.items() if c}


def write_results(results: Results, folder: Path) -> list[Path]:
    """Writes results.json and results.csv into `folder`, which is made. Raises OptionError where that fails."""
    written = {"results.json": _json(results), "results.csv": _csv(results.rows)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return [folder / name for name in written]


def read_results(folder: Path) -> Results:
    """What `write_results` wrote into `folder`. Raises OptionError where that cannot be read."""
    path = folder / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in content.pop("rows"))
        by_picture, interrupted = content.pop("by_picture"), content.pop("interrupted")
        del content["at_points"]  # follows from the rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path}: holds no results that can be read: {error}") from error
    return Results(content, rows, by_picture, interrupted)


def _json(results: Results) -> str:
    at = {
        f"{loss} by {by}": {
            name: [{"point": p.point, "loss": p.loss, "reach": p.reach} for p in points]
            for name, points in results.at_points(loss, by).items()
        }
        for by in (BY_FLOPS, BY_LATENCY)
        for loss in LOSSES
    }
    content = {
        **results.about,
        "interrupted": results.interrupted,
        "rows": [asdict(row) for row in results.rows],
        "at_points": at,
        "by_picture": results.by_picture,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(rows: Sequence[Row]) -> str:
    import io

    flat = [_flat(asdict(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as columns: paired.ssim.mean."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value
    return flat
