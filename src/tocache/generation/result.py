"""What a generation gives: frames, figures, and with a comparison the same without the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocache.planning import flops_text
from tocache.reports import Report

if TYPE_CHECKING:
    from PIL.Image import Image

Freshness = NDArray[np.float64]
Frames = tuple["Image", ...]
"""A video's pictures; a picture is a video of one."""


@dataclass(frozen=True)
class Generated:
    """A picture or a video, what the cache did for it, and with `compare` what the model draws without the cache.

    Seconds are wall-clock of the whole call, from the prompt to the last pixel. The first call of a process also pays
    for loading and compiling kernels; `compare` runs a few steps of both kinds before it measures.
    """

    frames: Frames
    output: Path
    report: Report
    seconds: float
    uncached_frames: Frames = ()
    uncached_seconds: float | None = None
    psnr: float | None = None  # dB between both, over all frames, infinite where they are equal
    freshness: Freshness | None = None  # (height, width) in tokens: share of the steps in which each was fresh

    @property
    def image(self) -> Image:
        """The picture, or the first one of a video."""
        return self.frames[0]

    @property
    def uncached(self) -> Image | None:
        """The picture without the cache, or the first one of that video."""
        return self.uncached_frames[0] if self.uncached_frames else None

    @property
    def speedup(self) -> float | None:
        """Seconds without the cache ÷ seconds with it."""
        return None if self.uncached_seconds is None else self.uncached_seconds / self.seconds


def psnr(frames: Image | Frames, references: Image | Frames) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, a video's together, in dB; infinite where they are equal."""
    one, other = (x if isinstance(x, tuple) else (x,) for x in (frames, references))
    errors = [np.mean((_pixels(a) - _pixels(b)) ** 2) for a, b in zip(one, other, strict=True)]
    error = float(np.mean(errors))
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def caption(result: Generated) -> str:
    """What the comparison shows, in two lines: method and model; latency, FLOPs and PSNR."""
    figures = result.report
    lines = [f"{figures.method} on {figures.model}, {figures.steps} steps"]
    if result.uncached_seconds is not None and result.psnr is not None and figures.flops_computed is not None:
        equal = result.psnr == float("inf")
        parts = [
            f"{result.uncached_seconds:.3g} s → {result.seconds:.3g} s ({result.speedup:.2f}× as fast)",
            f"{flops_text(figures.flops_uncached or 0)} → {flops_text(figures.flops_computed)} "
            f"({figures.speedup:.2f}× fewer)",
            "identical pictures" if equal else f"PSNR {result.psnr:.1f} dB",
        ]
        lines.append(" · ".join(parts))
    return "\n".join(lines)


def _pixels(image: Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB"), dtype=np.float64)
