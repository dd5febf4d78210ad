"""How large and how long a video can be: pixels by name and shape, frames by duration, latent frames of a video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tocache.errors import OptionError

FPS = 24
"""Frames per second of the published settings."""

IMAGE_FPS = 120
"""What a single frame is conditioned on in place of its frame rate."""

CHUNK_FRAMES, CHUNK_LATENTS = 17, 5
"""The autoencoder works on 17 frames at a time, which become 5 latent frames."""

TIME_FACTOR = 4
"""Frames to a latent frame, within a chunk; a shorter chunk is filled up at its beginning."""

DURATIONS: Mapping[str, int] = {"2s": 51, "4s": 102, "8s": 204, "16s": 408}
"""Frames by duration at 24 frames per second, in whole chunks."""

ASPECT_RATIOS = (
    *("3:8", "9:21", "12:25", "1:2", "9:17", "27:50", "9:16", "5:8", "2:3", "3:4", "1:1"),
    *("4:3", "3:2", "16:9", "17:9", "2:1", "50:27"),
)
"""Height : width, as the original writes them: 9:16 is a wide video. What it calls 50:27 is 25:12 (2.08)."""

# (height, width) in the order of ASPECT_RATIOS: the buckets that the model was trained on. They follow no single
# rule of rounding, so they are listed.
_SIZES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "144p": (
        *((117, 312), (125, 291), (133, 277), (135, 270), (139, 262), (141, 260), (144, 256), (151, 241), (156, 234)),
        *((166, 221), (192, 192), (221, 165), (235, 156), (256, 144), (263, 139), (271, 135), (277, 132)),
    ),
    "240p": (
        *((196, 522), (210, 490), (222, 462), (226, 452), (232, 438), (236, 436), (240, 426), (252, 404), (262, 393)),
        *((276, 368), (320, 320), (370, 278), (392, 262), (426, 240), (440, 232), (452, 226), (462, 222)),
    ),
    "360p": (
        *((294, 784), (314, 732), (332, 692), (340, 680), (350, 662), (352, 652), (360, 640), (380, 608), (392, 588)),
        *((416, 554), (480, 480), (554, 416), (588, 392), (640, 360), (660, 350), (678, 340), (692, 332)),
    ),
    "480p": (
        *((392, 1046), (420, 980), (444, 925), (452, 904), (466, 880), (470, 870), (480, 854), (506, 810), (522, 784)),
        *((554, 738), (640, 640), (740, 555), (784, 522), (854, 480), (880, 466), (906, 454), (924, 444)),
    ),
    "720p": (
        *((588, 1568), (628, 1466), (666, 1388), (678, 1356), (698, 1318), (706, 1306), (720, 1280), (758, 1212)),
        *((784, 1176), (832, 1110), (960, 960), (1108, 832), (1176, 784), (1280, 720), (1320, 698), (1358, 680)),
        (1386, 666),
    ),
}

RESOLUTIONS = tuple(_SIZES)
"""Names of the resolutions: the height of their 9:16 video."""

SMALLEST = 16
"""Pixels of a side, at least: one patch of latents."""


def pixel_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """(height, width) in pixels. Raises OptionError, listing what is allowed, for a name that is not."""
    _allowed("resolution", resolution, RESOLUTIONS)
    _allowed("aspect_ratio", aspect_ratio, ASPECT_RATIOS)
    return _SIZES[resolution][ASPECT_RATIOS.index(aspect_ratio)]


def checked_size(height: object, width: object) -> tuple[int, int]:
    """`height` and `width` in pixels as they are. Raises OptionError unless both are integers of at least 16."""
    for name, side in (("height", height), ("width", width)):
        if not isinstance(side, int) or isinstance(side, bool) or side < SMALLEST:
            raise OptionError(f"{name}={side!r} is not allowed; allowed: an integer >= {SMALLEST}, with the other side")
    assert isinstance(height, int)
    assert isinstance(width, int)
    return height, width


def video_size(
    resolution: str | None,
    aspect_ratio: str | None,
    height: int | None = None,
    width: int | None = None,
    usual: int | None = None,
) -> tuple[int, int]:
    """(height, width) in pixels: the sides where they are given, else as the names say.

    Without any it is a square of `usual` pixels. What is left out otherwise is 240p, 9:16. Raises OptionError.
    """
    if height is not None or width is not None:
        return checked_size(height, width)
    if usual is not None and resolution is None and aspect_ratio is None:
        return checked_size(usual, usual)
    return pixel_size("240p" if resolution is None else resolution, "9:16" if aspect_ratio is None else aspect_ratio)


def frame_count(duration: str | int) -> int:
    """Frames of a duration ("2s", "4s", "8s", "16s") or of a number, also one written out.

    Raises OptionError, listing what is allowed, for anything else.
    """
    count = DURATIONS.get(duration) if isinstance(duration, str) else duration
    if count is None and isinstance(duration, str) and duration.isdecimal():
        count = int(duration)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise OptionError(
            f"num_frames={duration!r} is not allowed; allowed: {', '.join(DURATIONS)}, or a number of frames >= 1"
        )
    return count


def latent_frames(frames: int) -> int:
    """Latent frames of a video of `frames` frames: 5 for each chunk of 17, and one for every 4 begun in the rest."""
    chunks, rest = divmod(frames, CHUNK_FRAMES)
    return chunks * CHUNK_LATENTS + -(-rest // TIME_FACTOR)


def _allowed(option: str, value: str, allowed: Iterable[str]) -> None:
    if value not in (allowed := tuple(allowed)):
        raise OptionError(f"{option}={value!r} is not allowed; allowed: {', '.join(allowed)}")
