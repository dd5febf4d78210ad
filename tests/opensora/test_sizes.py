"""Sizes and durations by name."""

from __future__ import annotations

import pytest

from tocache.errors import OptionError
from tocache.opensora import ASPECT_RATIOS, DURATIONS, RESOLUTIONS, frame_count, latent_frames, pixel_size
from tocache.opensora.sizes import checked_size


@pytest.mark.parametrize(
    ("resolution", "ratio", "expected"),
    [
        ("144p", "9:16", (144, 256)),
        ("240p", "9:16", (240, 426)),
        ("360p", "1:1", (480, 480)),
        ("480p", "9:16", (480, 854)),
        ("480p", "16:9", (854, 480)),
        ("720p", "9:16", (720, 1280)),
        ("720p", "50:27", (1386, 666)),
        ("144p", "3:8", (117, 312)),
    ],
)
def test_published_sizes(resolution: str, ratio: str, expected: tuple[int, int]) -> None:
    assert pixel_size(resolution, ratio) == expected


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_table_is_whole(resolution: str) -> None:
    """Every shape has its ratio, and about the pixels of the resolution's 9:16 video."""
    height, width = pixel_size(resolution, "9:16")
    for ratio in ASPECT_RATIOS:
        rows, columns = (25, 12) if ratio == "50:27" else (int(side) for side in ratio.split(":"))
        h, w = pixel_size(resolution, ratio)
        assert h / w == pytest.approx(rows / columns, rel=0.015)
        assert h * w == pytest.approx(height * width, rel=0.015)
    assert len(ASPECT_RATIOS) == 17


def test_tokens_of_the_published_videos() -> None:
    """The counts that shared facts and the paper's FLOPs rest on: patches of 2 × 2 latents, filled up."""
    for resolution, frames, tokens in (("240p", "2s", 6075), ("480p", "2s", 23850), ("480p", "4s", 47700)):
        height, width = pixel_size(resolution, "9:16")
        latents = latent_frames(frame_count(frames))
        assert latents * -(-(height // 8) // 2) * -(-(width // 8) // 2) == tokens


def test_durations() -> None:
    assert [frame_count(name) for name in DURATIONS] == [51, 102, 204, 408]
    assert (frame_count(1), frame_count("51"), frame_count(20)) == (1, 51, 20)


@pytest.mark.parametrize(
    ("frames", "latents"), [(1, 1), (4, 1), (5, 2), (17, 5), (18, 6), (20, 6), (51, 15), (408, 120)]
)
def test_latent_frames(frames: int, latents: int) -> None:
    assert latent_frames(frames) == latents


def test_errors_list_what_is_allowed() -> None:
    with pytest.raises(OptionError, match="resolution='4k' is not allowed; allowed: 144p, 240p, 360p, 480p, 720p"):
        pixel_size("4k", "9:16")
    with pytest.raises(OptionError, match=r"aspect_ratio='4:5' is not allowed; allowed: 3:8, .*, 50:27"):
        pixel_size("480p", "4:5")
    for duration in ("3s", "", 0, -17, 1.5, True, None):
        with pytest.raises(OptionError, match=r"allowed: 2s, 4s, 8s, 16s, or a number of frames >= 1"):
            frame_count(duration)  # type: ignore[arg-type]
    for size in ((8, 64), (64, None), (64.0, 64)):
        with pytest.raises(OptionError, match=r"is not allowed; allowed: an integer >= 16"):
            checked_size(*size)
