"""What is packed of a folder of samples: ADM's .npz, and WebDataset shards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tocache.errors import OptionError, SamplesError
from tocache.sampling import Prompts, Settings, pack, sample

from .nothing import SIDE, Nothing, prompts


def draw(folder: Path, given: Prompts, drawer: Nothing | None = None, **options: Any) -> Path:
    sample(Settings(batch=4), given, folder, shard=10, load=lambda: drawer or Nothing(), **options)
    return folder


@pytest.mark.parametrize("format", ["png", "tar"])
def test_npz_of_classes(tmp_path: Path, format: str) -> None:
    draw(tmp_path / "s", Prompts((3, 1, 2)), format=format, num=25)
    told: list[Any] = []
    packed = pack(tmp_path / "s", tmp_path / "s.npz", tell=lambda *what: told.append(what))
    assert (packed.pictures, packed.left_out, packed.files) == (25, 0, (tmp_path / "s.npz",))
    with np.load(tmp_path / "s.npz") as arrays:
        assert sorted(arrays) == ["arr_0", "arr_1"]
        pictures, classes = arrays["arr_0"], arrays["arr_1"]
    assert (pictures.shape, pictures.dtype) == ((25, SIDE, SIDE, 3), np.uint8)
    assert (classes.dtype, classes.tolist()) == (np.int64, [(3, 1, 2)[i % 3] for i in range(25)])
    np.testing.assert_array_equal(pictures, [Nothing().picture((3, 1, 2)[i % 3], i) for i in range(25)])
    assert told[-1] == ("packing", 25, 25)


def test_npz_of_prompts_has_no_classes_and_is_the_same_each_time(tmp_path: Path) -> None:
    draw(tmp_path / "s", prompts(7, at_3="poison"))
    assert pack(tmp_path / "s", tmp_path / "a.npz").left_out == 1
    pack(tmp_path / "s", tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        assert list(arrays) == ["arr_0"]
        assert arrays["arr_0"][:, 0, 1, 2].tolist() == [0, 1, 2, 4, 5, 6]  # the seeds


def test_webdataset_shards(tmp_path: Path) -> None:
    draw(tmp_path / "s", prompts(25))
    draw(tmp_path / "t", prompts(25), format="tar")
    packed = pack(tmp_path / "s", tmp_path / "packed", shard=10)
    assert [path.name for path in packed.files] == ["000000.tar", "000001.tar", "000002.tar"]
    for path in packed.files:  # as `--format tar` writes them
        assert path.read_bytes() == (tmp_path / "t/images" / path.name).read_bytes()
    with tarfile.open(packed.files[2]) as tar:
        names = tar.getnames()
        members = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in names}
    assert names[:3] == ["00000020.png", "00000020.json", "00000020.txt"]
    assert len(names) == 15
    assert members["00000021.txt"] == b"prompt 21"
    assert json.loads(members["00000021.json"])["seed"] == 21
    pixels = np.asarray(Image.open(io.BytesIO(members["00000021.png"])))
    np.testing.assert_array_equal(pixels, Nothing().picture("prompt 21", 21))


def test_shards_of_another_packing_are_not_left_beside_new_ones(tmp_path: Path) -> None:
    """Who reads all of a folder's shards would read pictures twice."""
    draw(tmp_path / "s", prompts(25))
    pack(tmp_path / "s", tmp_path / "packed", shard=10)
    before = {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    with pytest.raises(OptionError, match=r"packed holds 000002\.tar, which is no shard of this packing"):
        pack(tmp_path / "s", tmp_path / "packed", shard=20)
    assert {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()} == before
    assert len(pack(tmp_path / "s", tmp_path / "packed", shard=10).files) == 3


def test_classes_of_webdataset_shards_are_numbers(tmp_path: Path) -> None:
    draw(tmp_path / "s", Prompts((207,)), num=3)
    with tarfile.open(pack(tmp_path / "s", tmp_path / "packed").files[0]) as tar:
        file = tar.extractfile("00000002.cls")
        assert file is not None
        assert file.read() == b"207"


def test_what_is_not_finished_is_packed_only_where_that_is_wished(tmp_path: Path) -> None:
    class Stopping(Nothing):
        def draw(self, *arguments: Any) -> Any:
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().draw(*arguments)

    draw(tmp_path / "s", prompts(1200), Stopping())
    with pytest.raises(SamplesError, match="holds 8 of 1,200 pictures"):
        pack(tmp_path / "s", tmp_path / "s.npz")
    assert not (tmp_path / "s.npz").exists()
    packed = pack(tmp_path / "s", tmp_path / "s.npz", partial=True)
    assert (packed.pictures, packed.left_out) == (8, 1192)


def test_a_file_that_was_changed_is_named_and_the_old_output_stays(tmp_path: Path) -> None:
    draw(tmp_path / "s", prompts(7))
    (tmp_path / "s.npz").write_bytes(b"old")
    path = tmp_path / "s/images/000000/00000005.png"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for output in ("s.npz", "packed"):
        with pytest.raises(SamplesError, match=r"00000005\.png: its bytes are not those in the manifest"):
            pack(tmp_path / "s", tmp_path / output)
    assert (tmp_path / "s.npz").read_bytes() == b"old"
    assert list((tmp_path / "packed").iterdir()) == []


def test_pictures_of_two_sizes_do_not_fit_into_one_array(tmp_path: Path) -> None:
    class Growing(Nothing):
        def picture(self, prompt: Any, seed: int) -> Any:
            return np.zeros((8, 8 + seed, 3), np.uint8)

    draw(tmp_path / "s", prompts(3), Growing())
    with pytest.raises(OptionError, match="picture 1 is 9 × 8 pixels, and the first one is 8 × 8"):
        pack(tmp_path / "s", tmp_path / "s.npz")
    assert pack(tmp_path / "s", tmp_path / "packed").pictures == 3


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "s", prompts(3))
    with pytest.raises(SamplesError, match=r"it has no config\.json"):
        pack(tmp_path, tmp_path / "s.npz")
    with pytest.raises(OptionError, match="lies in the folder of samples itself"):
        pack(tmp_path / "s", tmp_path / "s" / "images")
    with pytest.raises(OptionError, match="cannot be written"):
        pack(tmp_path / "s", tmp_path / "nowhere" / "s.npz")
    with pytest.raises(OptionError, match="shard=0"):
        pack(tmp_path / "s", tmp_path / "packed", shard=0)
