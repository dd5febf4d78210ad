"""A folder of samples as it is read: rows and pictures in the order of the index, whatever lies on the disk."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tocache.errors import SamplesError
from tocache.samples import Layout, Row, Samples, read_rows
from tocache.samples.manifest import positions, scan


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def row(index: int, layout: Layout) -> Row:
    data = png(index)
    return Row(
        index, f"prompt {index}", 7 + index, layout.name(index), len(data), hashlib.sha256(data).hexdigest(), 0.5
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures in shards of three, the second of which is a .tar; 4 was skipped, lines are in disorder."""
    layout = Layout(tmp_path, 3)
    layout.config.write_text(json.dumps({"shard": 3, "num": 8}))
    rows = {i: row(i, layout) for i in (0, 1, 2, 3, 5, 6)}
    for i in (0, 1, 2, 6):
        path = layout.images / str(rows[i].file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    with tarfile.open(layout.tar(1), "w") as tar:
        for i in (3, 5):
            info = tarfile.TarInfo(f"{i:08d}.png")
            info.size = len(png(i))
            tar.addfile(info, io.BytesIO(png(i)))
    rows[4] = Row(4, "prompt 4", 11, error="ValueError: no")
    layout.manifest.write_text("".join(rows[i].line() for i in (3, 4, 5, 6, 2, 1, 0)), encoding="utf-8")
    return tmp_path


def test_everything_comes_in_the_order_of_the_index(folder: Path) -> None:
    samples = Samples(folder)
    assert (samples.asked, samples.recorded) == (8, 7)
    assert [r.index for r in samples.rows()] == list(range(7))
    assert [r.index for r in samples.rows(skipped=False)] == [0, 1, 2, 3, 5, 6]
    pictures = list(samples.images())
    assert [(r.index, int(x[0, 0, 0]), x.shape, x.dtype) for r, x in pictures] == [
        (i, i, (4, 6, 3), np.uint8) for i in (0, 1, 2, 3, 5, 6)
    ]
    assert all(hashlib.sha256(data).hexdigest() == r.sha256 for r, data in samples.files())


def test_a_line_says_what_the_row_says(tmp_path: Path) -> None:
    for one in (
        row(3, Layout(tmp_path, 2)),
        Row(1, 207, 5, error="ValueError: ö\nü"),
        Row(2, "“é”", 0, "f", 1, "h", 0.1),
    ):
        assert Row.of(one.line().encode()) == one
        assert one.line().count("\n") == 1
    assert "seconds" not in row(3, Layout(tmp_path, 2)).line(timed=False)


def test_a_line_that_is_still_being_written_is_not_read(folder: Path) -> None:
    with (folder / "manifest.jsonl").open("a") as file:
        file.write('{"index": 7, "prompt": "a')
    assert [r.index for r in Samples(folder).rows()] == list(range(7))


def test_positions_grow_with_the_index(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(Row(5000, "x", 0, error="e").line() + Row(3, "y", 0, error="e").line())
    starts = positions(path)
    assert len(starts) == 5001
    assert {i: int(starts[i]) for i in np.flatnonzero(starts >= 0)} == {
        index: position for position, index in ((p, r["index"]) for p, r in scan(path))
    }
    assert [r.index for r in read_rows(path)] == [3, 5000]


@pytest.mark.parametrize("line", ["[]", "{}", '{"index": 1}', '{"index": 1, "prompt": "", "seed": 2}', "\0\0\0", "{"])
def test_a_broken_line_is_named(folder: Path, line: str) -> None:
    path = folder / "manifest.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(SamplesError, match=r"manifest\.jsonl, line 1: not a row"):
        list(Samples(folder).rows())


def test_two_lines_about_one_picture_are_refused(folder: Path) -> None:
    path = folder / "manifest.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(SamplesError, match="two lines are about picture 3"):
        list(Samples(folder).rows())


def test_what_is_missing_or_broken_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "images/000000/00000001.png").write_bytes(b"no picture")
    with pytest.raises(SamplesError, match=r"00000001\.png: not a picture"):
        list(Samples(folder).images())
    (folder / "images/000000/00000001.png").unlink()
    with pytest.raises(SamplesError, match=r"00000001\.png: is in the manifest, but not there"):
        list(Samples(folder).files())
    (folder / "images/000001.tar").write_bytes(b"x" * 2000)
    (folder / "images/000000/00000001.png").write_bytes(png(1))
    with pytest.raises(SamplesError, match=r"000001\.tar: cannot be read"):
        list(Samples(folder).files())
    with pytest.raises(SamplesError, match=r"it has no config\.json"):
        Samples(folder / "images")
    (folder / "config.json").write_text("[]")
    with pytest.raises(SamplesError, match="not the configuration"):
        Samples(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(SamplesError, match="cannot be read"):
        Samples(folder)
