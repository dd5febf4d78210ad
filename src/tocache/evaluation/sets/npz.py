"""ADM's `.npz` files: pictures as `arr_0`, statistics as `mu`, `sigma`, `mu_s`, `sigma_s`; any of them may be missing.

Pictures are uint8 (N, H, W, 3). `mu` (2048,) and `sigma` (2048, 2048) are of Inception's pooled features, the ones with
`_s` (2023) of its spatial features. pytorch-fid's files hold `mu` and `sigma` alone.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tocache.errors import OptionError

PICTURES = "arr_0"
STATISTICS = (("pool", "mu", "sigma"), ("spatial", "mu_s", "sigma_s"))
"""Kind of feature, and the names of its mean and covariance."""

_BYTES = 1 << 25  # are read at once


def arrays_of(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of each array, read off the headers. Raises OptionError where `file` is no .npz."""
    with _archive(file) as archive:
        found = {}
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    shape, _, dtype = _header(member, file, name)
                found[name.removesuffix(".npy")] = (shape, dtype)
        return found


def read_array(file: Path, name: str) -> NDArray[Any]:
    """One array in its own dtype. Raises OptionError where it cannot be read."""
    with _archive(file) as archive, archive.open(f"{name}.npy") as member:
        try:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return array
        except (ValueError, OSError) as error:
            raise OptionError(f"{file}: {name} cannot be read: {error}") from error


def iter_pictures(file: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of `arr_0` one by one, (H, W, 3), without ever holding all of them.

    Raises OptionError where they are not uint8 (N, H, W, 3), or the file ends too early.
    """
    with _archive(file) as archive, archive.open(f"{PICTURES}.npy") as member:
        shape, fortran, dtype = _header(member, file, PICTURES)
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
            raise OptionError(f"{file}: {PICTURES} is {dtype} of shape {shape}; allowed: uint8 (pictures, H, W, 3)")
        size = int(np.prod(shape[1:]))
        at_once = max(1, _BYTES // size)
        for first in range(0, shape[0], at_once):
            wanted = min(at_once, shape[0] - first)
            data = member.read(wanted * size)
            if len(data) < wanted * size:
                raise OptionError(f"{file}: ends within picture {first + len(data) // size} of {shape[0]}")
            yield from np.frombuffer(data, np.uint8).reshape(wanted, *shape[1:])


def write_npz(
    file: Path,
    arrays: Mapping[str, NDArray[Any]],
    pictures: Iterable[NDArray[np.uint8]] = (),
    shape: tuple[int, int, int, int] | None = None,
) -> None:
    """Writes `arrays`, and `pictures` of the common `shape` (N, H, W, 3) as `arr_0`, one by one.

    Stands under its name only when it is whole. Raises OptionError where it cannot be written, or a picture differs
    in shape.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            if shape is not None:
                with archive.open(f"{PICTURES}.npy", "w", force_zip64=True) as member:
                    _write_pictures(member, pictures, shape)
        part.replace(file)
    except OSError as error:
        raise OptionError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _write_pictures(member: IO[bytes], pictures: Iterable[NDArray[np.uint8]], shape: tuple[int, int, int, int]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    count = 0
    for picture in pictures:
        if picture.shape != shape[1:] or picture.dtype != np.uint8:
            raise OptionError(f"picture {count} is {picture.dtype} of shape {picture.shape}, not uint8 {shape[1:]}")
        member.write(np.ascontiguousarray(picture).tobytes())
        count += 1
    if count != shape[0]:
        raise OptionError(f"{count} pictures came where {shape[0]} were announced")


@contextmanager
def _archive(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise OptionError(f"{file}: is not there") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise OptionError(f"{file}: cannot be read as .npz: {error}") from error
    with archive:
        yield archive


def _header(member: IO[bytes], file: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
    except ValueError as error:
        raise OptionError(f"{file}: {name} is no array: {error}") from error
    return tuple(int(side) for side in shape), bool(fortran), dtype
