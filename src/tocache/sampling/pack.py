"""What other tools read of a folder of samples: an .npz in ADM's form, or WebDataset shards."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tocache.errors import OptionError, SamplesError
from tocache.planning import check_count
from tocache.samples import Layout, Row, Samples
from tocache.sampling.files import whole_file
from tocache.sampling.shards import write_tar

Tell = Callable[[str, int, int], None]
_STEP = 64  # pictures between two reports
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold: the same samples give the same bytes


@dataclass(frozen=True)
class Packed:
    """What was written."""

    files: tuple[Path, ...]
    pictures: int
    left_out: int  # skipped, or with `partial` not yet drawn


def pack(
    samples: str | Path, output: str | Path, *, shard: int = 1000, partial: bool = False, tell: Tell | None = None
) -> Packed:
    """Packs a folder of samples in the order of the index, with little memory; every file is checked by its hash.

    output   `x.npz`: `arr_0`, uint8 (pictures, height, width, 3), and for classes `arr_1`, int64 (pictures): what the
             evaluator of ADM (Dhariwal & Nichol, 2021) reads. Any other name: a folder of WebDataset shards
    shard    pictures of one .tar
    partial  pack what is there, although more was asked for
    tell     is told a word, how many pictures are packed, and of how many

    Raises SamplesError where `samples` is no such folder, is not finished, or holds a file that is not what the
    manifest says; OptionError where the output cannot be written, pictures do not fit into one array, or shards of
    another packing lie there. An output that is there is replaced at the end, or not at all; shards one by one.
    """
    check_count("shard", shard)
    source, target = Samples(samples), Path(output)
    if not partial and source.recorded < source.asked:
        raise SamplesError(
            f"{source.root} holds {source.recorded:,} of {source.asked:,} pictures; draw the rest, or pack with partial"
        )
    count = sum(1 for _ in source.rows(skipped=False))
    if not count:
        raise SamplesError(f"{source.root} holds no picture yet")
    checked = _checked(source, count, tell or (lambda phase, done, total: None))
    try:
        if target.suffix == ".npz":
            _write_npz(target, checked, count)
            files: tuple[Path, ...] = (target,)
        else:
            _check_shards(target, source, shard)
            files = tuple(_write_shards(target, checked, shard))
    except OSError as error:
        raise OptionError(f"{target}: cannot be written: {error.strerror or error}") from error
    return Packed(files, count, source.asked - count)


def _checked(source: Samples, count: int, tell: Tell) -> Iterator[tuple[Row, bytes]]:
    for done, (row, data) in enumerate(source.files()):
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise SamplesError(
                f"{source.layout.images / str(row.file)}: its bytes are not those in the manifest; delete it and run "
                "the same `tocache sample` again: it is drawn anew"
            )
        if done % _STEP == 0:
            tell("packing", done, count)
        yield row, data
    tell("packing", count, count)


def _write_npz(path: Path, pictures: Iterator[tuple[Row, bytes]], count: int) -> None:
    """Picture by picture: an array of 50,000 would not fit into the memory of many machines."""
    first = next(pictures)
    pixels = _pixels(*first)
    classes: list[int] = []
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        with _member(archive, "arr_0") as member:
            _write_header(member, pixels.dtype, (count, *pixels.shape))
            for row, data in chain((first,), pictures):
                picture = _pixels(row, data)
                if picture.shape != pixels.shape:
                    raise OptionError(
                        f"picture {row.index} is {picture.shape[1]} × {picture.shape[0]} pixels, and the first one is "
                        f"{pixels.shape[1]} × {pixels.shape[0]}: they do not fit into one array; pack .tar shards"
                    )
                member.write(picture.tobytes())
                if isinstance(row.prompt, int):
                    classes.append(row.prompt)
        if len(classes) == count:
            with _member(archive, "arr_1") as member:
                labels = np.array(classes, dtype=np.int64)
                _write_header(member, labels.dtype, labels.shape)
                member.write(labels.tobytes())


def _check_shards(folder: Path, source: Samples, shard: int) -> None:
    """Raises OptionError where shards may not lie in `folder`, which is made otherwise."""
    root = source.root.resolve()
    if folder.resolve() == root or root in folder.resolve().parents:
        raise OptionError(f"{folder} lies in the folder of samples itself; choose another place")
    folder.mkdir(parents=True, exist_ok=True)
    layout = Layout(folder, shard)
    ours = {layout.tar(number).name for number in range(layout.shards(source.asked))}
    others = sorted(path.name for path in folder.glob("*.tar") if path.name not in ours)
    if others:  # who reads *.tar would read pictures twice
        raise OptionError(f"{folder} holds {others[0]}, which is no shard of this packing; choose another folder")


def _write_shards(folder: Path, pictures: Iterator[tuple[Row, bytes]], shard: int) -> Iterator[Path]:
    layout = Layout(folder, shard)
    for number, group in groupby(pictures, lambda one: layout.shard_of(one[0].index)):
        path = folder / layout.tar(number).name
        write_tar(path, group)
        yield path


def _pixels(row: Row, data: bytes) -> NDArray[np.uint8]:
    if Path(str(row.file)).suffix == ".mp4":
        raise OptionError(f"picture {row.index} is a video, which an .npz does not hold; pack .tar shards")
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True)


def _write_header(member: IO[bytes], dtype: np.dtype[np.uint8 | np.int64], shape: tuple[int, ...]) -> None:
    values = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, values)
