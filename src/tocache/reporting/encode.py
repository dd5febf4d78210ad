"""Pictures, maps and tables of shares as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tocache.generation.result import Frames

LOSSLESS_SIDE = 256
"""Frames of videos up to so many pixels wide and high are kept as they are; larger ones as WebP at QUALITY."""
QUALITY = 95

FULL = (0xB3, 0x12, 0x3A)
LEAST, MOST = (0xA9, 0xCD, 0xF0), (0x1F, 0x62, 0xA8)
"""Colours of a plan that tell apart on light and on dark: all tokens; from few to many; nothing is transparent."""


def picture_uri(picture: Image.Image) -> str:
    """A picture, every pixel as it is."""
    return _uri(picture.convert("RGB"), "png", optimize=True)


def frames_uris(frames: Frames) -> list[str]:
    """The frames of a video, one by one: all players of formats for videos skip frames, and few compare two."""
    lossless = max(frames[0].size) <= LOSSLESS_SIDE
    return [_uri(frame.convert("RGB"), "webp", lossless=lossless, quality=QUALITY) for frame in frames]


def maps_uri(fresh: NDArray[np.float64]) -> str:
    """Maps (steps, *grid) of shares as one grey picture: steps below each other, a video's frames side by side.

    A share is a level from 0 to 255.
    """
    steps, frames, height, width = maps_shape(fresh)
    sheet = fresh.reshape(steps, frames, height, width).transpose(0, 2, 1, 3).reshape(steps * height, frames * width)
    return _uri(Image.fromarray(np.rint(255 * sheet).astype(np.uint8)), "png", optimize=True)


def maps_shape(fresh: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """(steps, frames, height, width) of maps; pictures have one frame."""
    frames = fresh.shape[1] if fresh.ndim == 4 else 1
    return fresh.shape[0], frames, fresh.shape[-2], fresh.shape[-1]


def heat_uri(share: NDArray[np.float64], top: float) -> str:
    """A table (steps, blocks) of shares as a picture, one pixel each, steps across; `top` has the strongest blue."""
    colours = np.zeros((*share.shape, 4))
    colours[..., :3] = blend(np.clip(share / top, 0, 1))
    colours[share >= 1, :3] = FULL
    colours[..., 3] = np.where(share > 0, 255, 0)
    return _uri(Image.fromarray(np.rint(colours).astype(np.uint8).transpose(1, 0, 2).copy()), "png", optimize=True)


def blend(weight: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, 3) the blue of each weight from 0 to 1."""
    mixed: NDArray[np.float64] = np.array(LEAST) + np.asarray(weight)[..., None] * (np.array(MOST) - np.array(LEAST))
    return mixed


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
