"""Pipelines as workers hold them, drawn into real folders."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tocache.demo.random_pipelines import random_class_pipeline
from tocache.errors import OptionError, UnknownNameError
from tocache.generation import fingerprint, generate
from tocache.methods import ToCa, Uncached
from tocache.samples import Samples
from tocache.sampling import Prompts, Settings, sample
from tocache.sampling.batches import seed_of
from tocache.sampling.drawer import PipelineDrawer, fatal
from tocache.sampling.drawn import encode

from .nothing import bytes_of

QUICK: dict[str, Any] = {"model": "demo:random-class", "steps": 12, "method": ToCa(), "device": "cpu"}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo, smaller."""

    def load(*_: Any, **__: Any) -> Any:
        pipe = random_class_pipeline(depth=4, sample_size=16)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    monkeypatch.setattr("tocache.sampling.drawer.load_pipeline", load)


def test_a_picture_is_that_of_generate(tmp_path: Path) -> None:
    """With its own seed out of the manifest; in a batch of one, since bits depend on the batch."""
    sample(Settings(**QUICK, batch=1, seed=5), Prompts((207,)), tmp_path / "s")
    for row, pixels in Samples(tmp_path / "s").images():
        assert row.seed == seed_of(5, row.index)
        options = {name: value for name, value in QUICK.items() if name != "model"}
        generate(row.prompt, model=QUICK["model"], output=tmp_path / "g.png", seed=row.seed, **options)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "g.png").convert("RGB")))


def test_parts_in_any_order_give_the_bytes_of_the_whole(tmp_path: Path, tiny: None) -> None:
    """What was drawn alone, after a restart and beside a poisoned prompt is what was drawn at once."""
    settings, prompts = Settings(**QUICK, batch=3), Prompts((1, 2, 3, 4, 5, 6))
    sample(settings, prompts, tmp_path / "whole")
    sample(settings, prompts, tmp_path / "parts", num=4)
    (tmp_path / "parts/images/000000/00000001.png").unlink()
    sample(settings, prompts, tmp_path / "parts")
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
    poisoned = Prompts((1, 2, 3, 4, 999_999, 6))
    assert "unknown class 999999" in sample(settings, poisoned, tmp_path / "poisoned").reasons[4]
    whole, found = bytes_of(tmp_path / "whole"), bytes_of(tmp_path / "poisoned")
    for i in (0, 1, 2, 3, 5):
        assert found[f"images/000000/0000000{i}.png"] == whole[f"images/000000/0000000{i}.png"]


@pytest.mark.slow
def test_videos_are_mp4_files(tmp_path: Path) -> None:
    pytest.importorskip("av")
    settings = Settings(model="demo:random-video", steps=2, method=Uncached(), batch=1, device="cpu", duration="17")
    sample(settings, Prompts(("sea",)), tmp_path)
    ((row, data),) = Samples(tmp_path).files()
    assert row.file == "000000/00000000.mp4"
    assert data[4:8] == b"ftyp"


def test_what_bits_depend_on(tiny: None) -> None:
    about = PipelineDrawer(Settings(**QUICK)).about()
    assert about["method"] == "ToCa()"
    assert about["dtype"] == "float32"
    assert about["version of torch"].startswith(torch.__version__.split("+")[0])
    assert f"{torch.get_num_threads()} threads" in about["hardware"]
    json.dumps(about)


def test_a_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    def write(small: bytes, large: bytes) -> str | None:
        (tmp_path / "config.json").write_bytes(small)
        (tmp_path / "weights").write_bytes(large)
        return fingerprint(tmp_path)

    large = bytes(3 * 2**20)
    variants = [
        (b"{}", large),
        (b"[]", large),
        (b"{}", large + b"\0"),
        (b"{}", b"\1" + large[1:]),
        (b"{}", large[1:] + b"\1"),
    ]
    assert len({write(*variant) for variant in variants}) == len(variants)
    assert write(*variants[0]) == write(*variants[0])
    assert fingerprint("demo:class") != fingerprint("demo:text")
    assert fingerprint("demo:random-class") is None


def test_numbers_that_are_not_finite_are_no_picture(monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
    drawer = PipelineDrawer(Settings(**QUICK))
    pictures = torch.full((2, 3, 4, 4), 0.5)
    pictures[1, 0, 0, 0] = float("nan")
    monkeypatch.setattr("tocache.sampling.drawer.pictures_of", lambda output: pictures)
    first, second = drawer.draw((1, 2), (0, 1))
    assert isinstance(first, np.ndarray)
    assert set(first.ravel().tolist()) == {128}  # 127.5 is rounded to the even number, as diffusers does
    assert second == "the model's picture holds numbers that are not finite"


def test_pixels_come_back_out_of_a_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(pixels).data))), pixels)


def test_which_errors_are_no_prompts_fault() -> None:
    assert fatal(torch.OutOfMemoryError("x"))
    assert fatal(MemoryError())
    assert fatal(OptionError("x"))
    assert not fatal(UnknownNameError("unknown class"))
    assert not fatal(ValueError("x"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch": 0}, "batch=0"),
        ({"steps": 0}, "steps=0"),
        ({"threads": 0}, "threads=0"),
        ({"seed": -1}, "seed=-1"),
        ({"guidance": -1.0}, "guidance=-1"),
        ({"dtype": "int3"}, "int3"),
        ({"method": "papr-ddim50"}, "papr-ddim50"),
        ({"model": "demo:txt"}, "demo:txt"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Settings(**options)
