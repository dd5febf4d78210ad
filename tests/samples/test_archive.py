"""A .tar as far as it was written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tocache.errors import SamplesError
from tocache.samples.archive import members, pictures

FILES = {
    f"{index:08d}.{suffix}": bytes([index]) * size for index in (7, 3) for suffix, size in (("png", 700), ("txt", 3))
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A .tar that tarfile wrote."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tmp_path / "x.tar"


def read(path: Path, *, unfinished: bool = False) -> dict[str, bytes]:
    data = path.read_bytes()
    with path.open("rb") as file:
        found = members(file, path, unfinished=unfinished)
        return {name: data[place.data : place.data + place.size] for name, place in found}


def test_members_are_those_of_tarfile(path: Path) -> None:
    assert read(path) == FILES


@pytest.mark.parametrize(("kept", "whole"), [(0, 0), (511, 0), (1500, 0), (1536, 1), (2560, 2), (3000, 2)])
def test_a_cut_one_is_refused_or_read_up_to_there(path: Path, kept: int, whole: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    assert read(path, unfinished=True) == dict(list(FILES.items())[:whole])
    with pytest.raises(SamplesError, match=r"x\.tar: cannot be read"):
        read(path)


def test_what_is_no_tar_is_refused(path: Path) -> None:
    path.write_bytes(b"x" * 2000)
    assert read(path, unfinished=True) == {}
    with pytest.raises(SamplesError, match=r"x\.tar: cannot be read"):
        read(path)


def test_a_file_that_is_not_there_has_no_pictures(tmp_path: Path) -> None:
    assert pictures(tmp_path / "000001.tar.part") == {}
