"""Shards that become .tar files: what lies on the disk before, and what is made of it after a process was killed."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tocache.errors import SamplesError
from tocache.samples import Samples
from tocache.sampling import Sampled, Settings, sample
from tocache.sampling.shards import header
from tocache.sampling.workers import Here

from .nothing import Nothing, bytes_of, prompts

NUM = 30
PART = "images/000001.tar.part"


class Stopping(Nothing):
    """Is interrupted at its so-manieth call."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def draw(self, *arguments: Any) -> Any:
        if len(self.calls) == self.at:
            raise KeyboardInterrupt
        return super().draw(*arguments)


class Backwards(Here):
    def draw(self, batches: Any) -> Any:
        yield from super().draw(reversed(list(batches)))


def draw(folder: Path, drawer: Nothing | None = None, **options: Any) -> Sampled:
    """30 pictures in batches of 4 and shards of 10."""
    given = options.pop("prompts", prompts(NUM))
    return sample(Settings(batch=4), given, folder, shard=10, format="tar", load=lambda: drawer or Nothing(), **options)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    draw(tmp_path / "whole")
    return bytes_of(tmp_path / "whole")


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with pictures 0 … 15, of which 10 … 15 lie in a part."""
    draw(tmp_path / "stopped", Stopping(4))
    assert {path.name for path in (tmp_path / "stopped/images").iterdir()} == {"000000.tar", "000001.tar.part"}
    return tmp_path / "stopped"


@pytest.mark.parametrize(("name", "size"), [("00000001.png", 0), ("12345678.json", 12_345), ("x.cls", 8**11 - 1)])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_a_shard_is_in_order_in_whatever_order_it_was_drawn(tmp_path: Path, whole: dict[str, bytes]) -> None:
    draw(tmp_path / "backwards", start=Backwards)
    assert bytes_of(tmp_path / "backwards") == whole
    with tarfile.open(fileobj=io.BytesIO(whole["images/000001.tar"])) as tar:
        names = [member.name for member in tar]
    assert names == [f"{i:08d}.{suffix}" for i in range(10, 20) for suffix in ("png", "json", "txt")]


def test_pictures_are_read_before_their_shard_is_complete(stopped: Path, whole: dict[str, bytes]) -> None:
    samples = Samples(stopped)
    with tarfile.open(fileobj=io.BytesIO(whole["images/000001.tar"])) as tar:
        for row, data in samples.files():
            if row.index >= 10:
                member = tar.extractfile(f"{row.index:08d}.png")
                assert member is not None
                assert member.read() == data
    assert [row.index for row, _ in samples.files()] == list(range(16))


@pytest.mark.parametrize("lost", [1, 600, 2000, 10_000])
def test_what_a_power_cut_took_is_drawn_anew(stopped: Path, whole: dict[str, bytes], lost: int) -> None:
    """The manifest reached the disk, the end of the part did not."""
    os.truncate(stopped / PART, max(0, (stopped / PART).stat().st_size - lost))
    drawer = Nothing()
    draw(stopped, drawer)
    assert len(drawer.calls) > 4
    assert bytes_of(stopped) == whole


def test_half_a_picture_without_a_line_is_cut_off(stopped: Path, whole: dict[str, bytes]) -> None:
    with (stopped / PART).open("ab") as part:
        part.write(header("00000016.png", 400) + bytes(400))
    drawer = Nothing()
    draw(stopped, drawer)
    assert len(drawer.calls) == 4
    assert bytes_of(stopped) == whole


def test_a_picture_that_was_written_twice_is_there_once(stopped: Path, whole: dict[str, bytes]) -> None:
    """Killed between the pictures of a batch and their lines."""
    lines = (stopped / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "manifest.jsonl").write_bytes(b"".join(lines[:12]))
    draw(stopped)
    assert bytes_of(stopped) == whole


def test_a_part_that_outlived_its_tar_is_removed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    (tmp_path / "whole" / PART).write_bytes(b"of a process that was killed before it removed this")
    draw(tmp_path / "whole")
    assert bytes_of(tmp_path / "whole") == whole


def test_a_complete_part_becomes_a_tar_without_drawing(stopped: Path, whole: dict[str, bytes]) -> None:
    """Killed between the last line of a shard and its .tar."""
    draw(stopped, num=NUM)
    os.rename(stopped / "images/000001.tar", stopped / PART)
    drawer = Nothing()
    draw(stopped, drawer)
    assert drawer.calls == []
    assert bytes_of(stopped) == whole


def test_a_shard_without_a_single_picture_is_empty(tmp_path: Path) -> None:
    given = prompts(NUM, **{f"at_{i}": "poison" for i in range(10, 20)})
    assert draw(tmp_path, prompts=given).state.skipped == 10
    with tarfile.open(tmp_path / "images/000001.tar") as tar:
        assert tar.getnames() == []
    assert not (tmp_path / PART).exists()


def test_other_bytes_than_the_manifests_are_named(stopped: Path, whole: dict[str, bytes]) -> None:
    with (stopped / PART).open("r+b") as part:
        part.seek(600)
        part.write(b"?")
    with pytest.raises(SamplesError, match=r"000001\.tar\.part: the bytes of picture 10 are not those in the manifest"):
        draw(stopped)
    (stopped / PART).unlink()
    draw(stopped)
    assert bytes_of(stopped) == whole


def test_a_tar_of_other_pictures_is_named_when_its_shard_grows(tmp_path: Path, whole: dict[str, bytes]) -> None:
    draw(tmp_path / "s", num=15)
    os.replace(tmp_path / "s/images/000001.tar", tmp_path / "aside")
    (tmp_path / "s/images/000001.tar").write_bytes(whole["images/000000.tar"])
    with pytest.raises(SamplesError, match=r"000001\.tar\.part: the bytes of picture 10 are not those"):
        draw(tmp_path / "s")
    os.replace(tmp_path / "aside", tmp_path / "s" / PART)
    draw(tmp_path / "s")
    assert bytes_of(tmp_path / "s") == whole
