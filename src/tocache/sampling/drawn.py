"""What a worker gives back: the files of a batch, and whose prompt could not be drawn."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tocache.generation.media import save_frames
from tocache.sampling.batches import Batch

Pixels = NDArray[np.uint8]
"""A picture (height, width, 3) or a video (frames, height, width, 3)."""


@dataclass(frozen=True)
class File:
    """A picture as the bytes of a file."""

    suffix: str
    data: bytes
    sha256: str


@dataclass(frozen=True)
class Drawn:
    """A batch that was drawn: its wanted rows are either in `files` or in `skipped`, which says why."""

    batch: Batch
    files: Mapping[int, File]
    skipped: Mapping[int, str]
    seconds: float  # wall-clock of the call


def encode(pixels: Pixels, fps: float | None = None) -> File:
    """A picture as PNG, a video of `fps` frames per second as H.264 in .mp4."""
    if pixels.ndim == 3:
        suffix, data = ".png", _png(pixels)
    else:
        assert fps is not None
        suffix, data = ".mp4", _mp4(pixels, fps)
    return File(suffix, data, hashlib.sha256(data).hexdigest())


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _mp4(pixels: Pixels, fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        save_frames(tuple(Image.fromarray(frame) for frame in pixels), path, fps)
        return path.read_bytes()
