"""Reading a folder of samples, whatever its format and whether or not it is finished."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tocache.errors import SamplesError
from tocache.samples.archive import Place, members
from tocache.samples.layout import CONFIG, Layout, shard_name
from tocache.samples.manifest import Row, positions, read_rows

Picture = NDArray[np.uint8]
"""(height, width, 3)"""


class Samples:
    """A folder that `tocache sample` wrote, or is writing.

    Raises SamplesError where `folder` is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.root = Path(folder)
        self.config = read_config(self.root / CONFIG)
        self.layout = Layout(self.root, int(self.config["shard"]))

    @property
    def asked(self) -> int:
        """How many pictures the folder is to hold."""
        return int(self.config["num"])

    @cached_property
    def recorded(self) -> int:
        """How many pictures were drawn or skipped when this was first asked."""
        return int((positions(self.layout.manifest) >= 0).sum()) if self.layout.manifest.exists() else 0

    def rows(self, *, skipped: bool = True) -> Iterator[Row]:
        """The manifest's rows in the order of the index; `skipped` also those whose prompt could not be drawn.

        Raises SamplesError where the manifest is broken.
        """
        if self.layout.manifest.exists():
            yield from (row for row in read_rows(self.layout.manifest) if skipped or row.error is None)

    def files(self) -> Iterator[tuple[Row, bytes]]:
        """Each picture's row and the bytes of its file, in the order of the index.

        Raises SamplesError where a file is missing.
        """
        with _Shard() as shard:
            for row in self.rows(skipped=False):
                assert row.file is not None
                shard.turn_to(self.layout, self.layout.shard_of(row.index))
                yield row, shard.read(row.file)

    def images(self) -> Iterator[tuple[Row, Picture]]:
        """Each picture's row and its pixels, uint8 (height, width, 3), in the order of the index.

        Raises SamplesError where a file is missing or is no picture.
        """
        for row, data in self.files():
            try:
                pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            except OSError as error:
                raise SamplesError(f"{self.layout.images / str(row.file)}: not a picture: {error}") from error
            yield row, pixels


class _Shard:
    """The shard that is being read: a folder, or a .tar, finished or not, with the places of its members."""

    def __init__(self) -> None:
        self._number = -1
        self._layout: Layout | None = None
        self._tar: BinaryIO | None = None
        self._members: dict[str, Place] = {}

    def __enter__(self) -> _Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def turn_to(self, layout: Layout, number: int) -> None:
        """Read from shard `number` from now on."""
        if (layout, number) != (self._layout, self._number):
            self._close()
            self._layout, self._number = layout, number

    def read(self, file: str) -> bytes:
        """The bytes of the manifest's `file`. Raises SamplesError where it is not there."""
        assert self._layout is not None
        path = self._layout.images / file
        if self._tar is None:
            try:
                return path.read_bytes()
            except FileNotFoundError:
                self._open()
        name = file.partition("/")[2]
        if self._tar is None or name not in self._members:
            raise SamplesError(
                f"{path}: is in the manifest, but not there, nor in {shard_name(self._number)}.tar; "
                "run the same `tocache sample` again, and what is missing is drawn anew"
            )
        place = self._members[name]
        self._tar.seek(place.data)
        return self._tar.read(place.size)

    def _open(self) -> None:
        assert self._layout is not None
        tar, part = self._layout.tar(self._number), self._layout.part(self._number)
        for path in (tar, part, tar):  # the second time: it was finished just now
            try:
                self._tar = path.open("rb")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SamplesError(f"{path}: cannot be read: {error.strerror or error}") from error
            self._members = dict(members(self._tar, path, unfinished=path == part))
            return

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._tar, self._members = None, {}


def read_config(path: Path) -> dict[str, Any]:
    """What a folder of samples was made with. Raises SamplesError where it does not say."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SamplesError(f"{path.parent}: not a folder of samples: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise SamplesError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict) or not config.keys() >= {"shard", "num"}:
        raise SamplesError(f"{path}: not the configuration of a folder of samples")
    return config
