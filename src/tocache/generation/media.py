"""Pictures and videos to files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tocache.errors import OptionError
from tocache.generation.result import Frames
from tocache.models.architectures import one_line

VIDEOS = (".mp4", ".gif", ".webp")


def check_output(output: str | Path) -> Path:
    """`output` as a path. Raises OptionError where no picture or video can be written there."""
    from PIL import Image

    target = Path(output)
    suffix = target.suffix.lower()
    if suffix not in Image.registered_extensions() and suffix not in VIDEOS:
        raise OptionError(
            f"output={str(output)!r} is not allowed; allowed: a picture's name, such as out.png, or a video's: "
            f"{', '.join(VIDEOS)}"
        )
    if not target.parent.is_dir():
        raise OptionError(f"output={str(output)!r}: there is no folder {str(target.parent)!r}")
    if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise OptionError(f"output={str(output)!r}: no file can be written there")
    if suffix == ".mp4":
        _av()
    return target


def check_kind(target: Path, *, video: bool) -> None:
    """Raises OptionError where a model that draws videos is asked for a picture file, or the other way round."""
    suffix = target.suffix.lower()
    if video and suffix not in VIDEOS:
        raise OptionError(
            f"output={str(target)!r} is not allowed: this model makes videos; allowed: {', '.join(VIDEOS)}"
        )
    if not video and suffix == ".mp4":
        raise OptionError(f"output={str(target)!r} is not allowed: this model makes pictures; allowed: such as out.png")


def save_frames(frames: Frames, target: Path, fps: float) -> None:
    """Write a picture, or a video of `fps` frames per second. Raises OptionError where it cannot be written."""
    if len(frames) == 1 and target.suffix.lower() != ".mp4":
        save(frames[0].save, target)
    elif target.suffix.lower() == ".mp4":
        save(lambda path: _write_mp4(frames, path, fps), target)
    else:
        more: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 1000 / fps, "loop": 0}
        save(lambda path: frames[0].save(path, **more), target)


def save(write: Callable[[Path], None], target: Path) -> None:
    """Call `write`. Raises OptionError for what goes wrong with the file."""
    try:
        write(target)
    except (OSError, ValueError) as error:
        raise OptionError(f"{target}: cannot be written: {one_line(error)}") from error


def _write_mp4(frames: Frames, path: Path, fps: float) -> None:
    """H.264, which every player shows; its sides are even numbers, so an odd last row or column is cut off."""
    av = _av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height = (side - side % 2 for side in frames[0].size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16"}
        for frame in frames:
            pixels = np.asarray(frame.convert("RGB"))[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(stream.encode())


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise OptionError("an .mp4 needs PyAV: pip install 'tocache[video]'; a .gif or .webp needs nothing") from error
    return av
