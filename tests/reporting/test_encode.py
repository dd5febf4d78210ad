"""Pictures and tables as data URIs: read back, they are what they were."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tocache.reporting.encode import (
    FULL,
    LEAST,
    MOST,
    blend,
    frames_uris,
    heat_uri,
    maps_shape,
    maps_uri,
    picture_uri,
)


def read(uri: str) -> NDArray[np.uint8]:
    head, _, body = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        return np.asarray(picture)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_pictures_keep_every_pixel() -> None:
    pixels = noise(20, 30, 3)
    assert (read(picture_uri(Image.fromarray(pixels))) == pixels).all()


def test_small_frames_keep_every_pixel_and_large_ones_nearly() -> None:
    small = noise(2, 16, 24, 3)
    uris = frames_uris(tuple(Image.fromarray(frame) for frame in small))
    assert (np.stack([read(uri) for uri in uris]) == small).all()
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (64, 300, 3)).copy()
    (uri,) = frames_uris((Image.fromarray(ramp),))
    error = np.abs(read(uri).astype(int) - ramp)
    assert 0 < error.max() <= 12


@pytest.mark.parametrize("grid", [(3, 5), (2, 3, 5)], ids=["picture", "video"])
def test_maps_are_read_as_the_page_reads_them(grid: tuple[int, ...]) -> None:
    fresh = np.random.default_rng(0).random((4, *grid))
    steps, frames, height, width = maps_shape(fresh)
    assert (steps, height, width) == (4, 3, 5)
    sheet = read(maps_uri(fresh)) / 255
    assert sheet.shape == (steps * height, frames * width)
    for step in range(steps):
        for frame in range(frames):
            tile = sheet[step * height : (step + 1) * height, frame * width : (frame + 1) * width]
            original = fresh[step] if len(grid) == 2 else fresh[step, frame]
            np.testing.assert_allclose(tile, original, atol=0.5 / 255 + 1e-9)


def test_a_plans_colours_tell_all_some_and_none() -> None:
    share = np.array([[1.0, 0.5, 0.0], [0.25, 0.1, 1.0]])  # (2 steps, 3 blocks)
    cells = read(heat_uri(share, top=0.5))
    assert cells.shape == (3, 2, 4)  # blocks down, steps across
    assert tuple(cells[0, 0]) == (*FULL, 255)
    assert tuple(cells[1, 0]) == (*MOST, 255)
    assert cells[2, 0, 3] == 0
    np.testing.assert_allclose(cells[0, 1, :3], blend(0.5), atol=0.5)


def test_the_blues_run_from_one_end_to_the_other() -> None:
    assert tuple(blend(0.0)) == LEAST
    assert tuple(blend(1.0)) == MOST
    np.testing.assert_allclose(blend(np.array([0.5]))[0], (np.array(LEAST) + MOST) / 2)
