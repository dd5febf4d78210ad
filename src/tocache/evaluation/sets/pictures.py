"""Sets of pictures on disk: folders, those of `tocache sample`, and ADM's `.npz` files, read one picture at a time."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tocache.errors import OptionError
from tocache.evaluation.sets.npz import PICTURES, arrays_of, iter_pictures

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})

Pixels = NDArray[np.uint8]
"""(H, W, 3)"""

_AHEAD = 64  # pictures that are decoded before they are asked for
_T = TypeVar("_T")


@dataclass(frozen=True)
class PictureSet:
    """Pictures in a fixed order.

    path     the folder or file
    names    what each picture is called: its path in the folder without suffix, or its number
    prompts  what each was drawn from, a text or the number of a class; None where that is not known
    seeds    of each picture's noise; None where that is not known
    load     gives each picture, in order, as a function that decodes it
    digest   of all contents: equal for equal pictures in equal order
    """

    path: Path
    names: Sequence[str]
    prompts: Sequence[str | int] | None
    seeds: Sequence[int] | None
    load: Callable[[], Iterator[Callable[[], Pixels]]]
    digest: Callable[[], str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pixels]:
        """Each picture, uint8 (H, W, 3); the next ones are decoded meanwhile."""
        return _ahead(self.load())

    def at(self, indices: Sequence[int]) -> Iterator[Pixels]:
        """Those at `indices`, which rise; the others are not decoded."""
        wanted = set(indices)
        return _ahead(decode for i, decode in enumerate(self.load()) if i in wanted)


def open_pictures(path: str | Path, *, square: int | None = None) -> PictureSet:
    """The pictures of a folder, at any depth and in the order of their paths, or of an .npz file.

    square   scale each picture's shorter side to so many pixels and cut out the middle, as references are usually
             prepared; the default is to take pictures as they are

    Raises OptionError where nothing is there, or it holds no pictures; SamplesError where a folder of `tocache sample`
    is broken.
    """
    path = Path(path)
    if square is not None and square < 1:
        raise OptionError(f"square={square!r} is not allowed; allowed: an integer >= 1")
    if path.is_dir():
        from tocache.samples import MANIFEST

        found = _sampled(path) if (path / MANIFEST).is_file() else _folder(path)
    elif path.is_file():
        found = _npz(path)
    else:
        raise OptionError(f"{path}: is not there; allowed: a folder of pictures, or an .npz file with {PICTURES}")
    if not found.names:
        raise OptionError(f"{path}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return found if square is None else _cut(found, square)


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of the numbers below `count`, evenly spaced: folders are often sorted by class."""
    if limit is None or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def decode(data: bytes | Path, name: str) -> Pixels:
    """The pixels of a picture file. Raises OptionError that names it where it is none."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise OptionError(f"{name}: not a picture: {error}") from error


def _folder(path: Path) -> PictureSet:
    files = sorted(
        (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES),
        key=lambda file: file.relative_to(path).parts,
    )
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]

    def load() -> Iterator[Callable[[], Pixels]]:
        return (partial(decode, file, str(file)) for file in files)

    def digest() -> str:
        return _digest((file.relative_to(path).as_posix(), partial(_chunks, file)) for file in files)

    return PictureSet(path, names, None, None, load, digest)


def _sampled(path: Path) -> PictureSet:
    from tocache.samples import Samples

    samples = Samples(path)
    rows = list(samples.rows(skipped=False))

    def load() -> Iterator[Callable[[], Pixels]]:
        return (partial(decode, data, f"{path}: {row.file}") for row, data in samples.files())

    def digest() -> str:
        # the manifest has each file's own digest
        return _digest((str(row.file), partial(_one, str(row.sha256).encode())) for row in rows)

    names = [str(row.file).rpartition("/")[2].rpartition(".")[0] for row in rows]
    return PictureSet(path, names, [row.prompt for row in rows], [row.seed for row in rows], load, digest)


def _npz(path: Path) -> PictureSet:
    arrays = arrays_of(path)
    count = arrays[PICTURES][0][0] if PICTURES in arrays and arrays[PICTURES][0] else 0

    def load() -> Iterator[Callable[[], Pixels]]:
        return (partial(_same, picture) for picture in iter_pictures(path))

    def digest() -> str:
        return _digest([(PICTURES, partial(_chunks, path))])

    return PictureSet(path, [f"{i:08d}" for i in range(count)], None, None, load, digest)


def _cut(found: PictureSet, side: int) -> PictureSet:
    def load() -> Iterator[Callable[[], Pixels]]:
        return (partial(_middle, decode, side) for decode in found.load())

    def digest() -> str:
        return f"{found.digest()}-{side}"

    return PictureSet(found.path, found.names, found.prompts, found.seeds, load, digest)


def _middle(decode: Callable[[], Pixels], side: int) -> Pixels:
    pixels = decode()
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)  # antialiased where it shrinks
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)))


def _ahead(pending: Iterable[Callable[[], _T]]) -> Iterator[_T]:
    """The results in order, computed by threads at most so many places before they are asked for."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        started: deque[Future[_T]] = deque()
        try:
            for one in pending:
                started.append(pool.submit(one))
                if len(started) > _AHEAD:
                    yield started.popleft().result()
            while started:
                yield started.popleft().result()
        finally:
            for future in started:
                future.cancel()


def _digest(parts: Iterable[tuple[str, Callable[[], Iterable[bytes]]]]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for name, chunks in parts:
        whole.update(f"{name}\0".encode())
        for chunk in chunks():
            whole.update(chunk)
    return whole.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 22):
                yield chunk
    except OSError as error:
        raise OptionError(f"{file}: cannot be read: {error.strerror or error}") from error


def _one(data: bytes) -> Iterator[bytes]:
    yield data


def _same(picture: Pixels) -> Pixels:
    return picture
