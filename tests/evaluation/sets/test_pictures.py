from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tocache.errors import OptionError
from tocache.evaluation.sets.batches import batched, batched_pairs
from tocache.evaluation.sets.npz import arrays_of, iter_pictures, read_array, write_npz
from tocache.evaluation.sets.pictures import open_pictures, spread


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name, value in (("b/0.png", 3), ("a/1.png", 2), ("a/0.png", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2), (value, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    found = open_pictures(tmp_path)
    assert list(found.names) == ["a/0", "a/1", "b/0"]
    assert [int(picture[0, 0, 0]) for picture in found] == [1, 2, 3]
    assert [int(picture[0, 0, 0]) for picture in found.at([0, 2])] == [1, 3]


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (3, 2), 7).save(tmp_path / "0.png")
    Image.new("RGBA", (3, 2), (1, 2, 3, 0)).save(tmp_path / "1.png")
    assert [picture.shape for picture in open_pictures(tmp_path)] == [(2, 3, 3), (2, 3, 3)]


def test_many_pictures_come_in_order_from_many_threads(save: Callable[..., Path], tiny: ModuleType) -> None:
    pictures = tiny.pictures(300, 0)
    np.testing.assert_array_equal(np.stack(list(open_pictures(save(pictures, "many")))), pictures)


def test_an_npz_of_adm_is_streamed(tmp_path: Path, tiny: ModuleType) -> None:
    pictures = tiny.pictures(50, 0)
    np.savez(tmp_path / "plain.npz", pictures)
    np.savez_compressed(tmp_path / "small.npz", arr_0=pictures)
    for name in ("plain.npz", "small.npz"):
        np.testing.assert_array_equal(np.stack(list(open_pictures(tmp_path / name))), pictures)


def test_what_is_written_numpy_reads(tmp_path: Path, tiny: ModuleType) -> None:
    pictures, mean = tiny.pictures(9, 0), np.arange(4.0)
    write_npz(tmp_path / "new" / "one.npz", {"mu": mean}, iter(pictures), pictures.shape)
    with np.load(tmp_path / "new" / "one.npz") as loaded:
        np.testing.assert_array_equal(loaded["arr_0"], pictures)
        np.testing.assert_array_equal(loaded["mu"], mean)
    assert arrays_of(tmp_path / "new" / "one.npz") == {
        "mu": ((4,), np.dtype("float64")),
        "arr_0": ((9, 8, 8, 3), np.dtype("uint8")),
    }
    np.testing.assert_array_equal(read_array(tmp_path / "new" / "one.npz", "mu"), mean)


def test_a_broken_write_leaves_nothing(tmp_path: Path, tiny: ModuleType) -> None:
    with pytest.raises(OptionError, match="3 pictures came where 5"):
        write_npz(tmp_path / "one.npz", {}, iter(tiny.pictures(3, 0)), (5, 8, 8, 3))
    with pytest.raises(OptionError, match="picture 0 is"):
        write_npz(tmp_path / "one.npz", {}, [np.zeros((4, 4, 3), np.uint8)], (1, 8, 8, 3))
    assert list(tmp_path.iterdir()) == []


def test_what_holds_no_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "floats.npz", np.zeros((2, 4, 4, 3)))
    with pytest.raises(OptionError, match="holds no pictures"):
        open_pictures(tmp_path / "empty")
    with pytest.raises(OptionError, match="is not there"):
        open_pictures(tmp_path / "missing")
    with pytest.raises(OptionError, match="cannot be read"):
        open_pictures(tmp_path / "text.npz")
    with pytest.raises(OptionError, match="allowed: uint8"):
        list(iter_pictures(tmp_path / "floats.npz"))
    (tmp_path / "empty" / "0.png").write_text("no picture")
    with pytest.raises(OptionError, match=r"0\.png: not a picture"):
        list(open_pictures(tmp_path / "empty"))


def test_a_truncated_npz_says_where(tmp_path: Path, tiny: ModuleType) -> None:
    import zipfile

    pictures = tiny.pictures(4, 0)
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as archive, archive.open("arr_0.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": pictures.shape})
        member.write(pictures[:2].tobytes())
    with pytest.raises(OptionError, match="ends within picture 2 of 4"):
        list(iter_pictures(tmp_path / "cut.npz"))


def test_square_keeps_the_middle_of_the_shorter_sides_scale(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tmp_path / "0.png")
    (cut,) = open_pictures(tmp_path, square=10)
    assert cut.shape == (10, 10, 3)
    assert cut[:, 2:8].min() > 240
    with pytest.raises(OptionError, match="square=0"):
        open_pictures(tmp_path, square=0)


def test_the_digest_follows_contents_order_and_preparation(save: Callable[..., Path], tiny: ModuleType) -> None:
    pictures = tiny.pictures(3, 0)
    same, again = save(pictures, "one"), save(pictures, "two")
    other = save(pictures[::-1], "other")
    assert open_pictures(same).digest() == open_pictures(again).digest()
    digests = {open_pictures(same).digest(), open_pictures(other).digest(), open_pictures(same, square=4).digest()}
    assert len(digests) == 3


def test_spread_is_even_and_rises() -> None:
    assert spread(5, None) == spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    chosen = spread(50_000, 10_000)
    assert len(set(chosen)) == 10_000
    assert chosen == sorted(chosen)
    assert spread(4, 0) == []


def test_batches_hold_one_size(tiny: ModuleType) -> None:
    small, large = tiny.pictures(5, 0), np.zeros((2, 16, 16, 3), np.uint8)
    shapes = [tuple(group.shape) for group in batched([*small, *large, *small[:1]], 3)]
    assert shapes == [(3, 3, 8, 8), (2, 3, 8, 8), (2, 3, 16, 16), (1, 3, 8, 8)]
    (group,) = batched(small, 8)
    torch.testing.assert_close(group, torch.from_numpy(small).permute(0, 3, 1, 2) / 255)
    with pytest.raises(OptionError, match="batch=0"):
        list(batched(small, 0))


def test_pairs_of_two_sizes_name_the_picture(tiny: ModuleType) -> None:
    small, large = tiny.pictures(1, 0), np.zeros((1, 16, 8, 3), np.uint8)
    with pytest.raises(OptionError, match="seven: 8 × 8 pixels cannot be compared with 8 × 16"):
        list(batched_pairs(small, large, ["seven"], 4))
