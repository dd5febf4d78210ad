"""Shipping: the folder loads as it is, says how good it is and how it was made, and is never too large."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, DiTPipeline, PixArtAlphaPipeline
from PIL import Image
from safetensors.torch import load_file

from tocache.demo.train import ship
from tocache.demo.train.classes import ClassTask
from tocache.demo.train.latent_task import Size
from tocache.demo.train.text import TextTask
from tocache.demo.train.vae import new_vae
from tocache.demo.train.video import VideoTask
from tocache.demo.train.video_vae import new_video_vae
from tocache.errors import OptionError, UnknownNameError
from tocache.opensora import OpenSoraPipeline

CPU = torch.device("cpu")
FIGURES = {
    "demo:text": {"model": "x", "prompts": 512, "all claims of a prompt": 0.9375, "claims": 0.981, "size": 0.8712},
    "demo:class": {"model": "x", "pictures": 512, "right class": 0.9611},
    "demo:video": {"model": "x", "prompts": 512, "shape, colour and direction": 0.8611, "claims": 0.5, "motion": 0.91},
}


CLASSES: dict[str, Any] = {"demo:text": PixArtAlphaPipeline, "demo:class": DiTPipeline, "demo:video": OpenSoraPipeline}


def run_of(folder: Path, **changes: Any) -> Path:
    """A run's folder without an export."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {
        "command": f"python -m tocache.demo.train {folder.name} --steps 7",
        "steps": 7,
        "pictures seen": 123456,
        "minutes": 41.7,
        "device": "2 threads of Some CPU",
        "torch": "9.9.9",
    }
    (folder / "run.json").write_text(json.dumps(said | changes))
    Image.new("RGB", (8, 8), "red").save(folder / "sample.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Of each demo, the autoencoder's run and its own."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    vae = run_of(folder / "vae")
    new_vae().save_pretrained(vae / "export")
    sizes: dict[str, Any] = {"vae": vae / "export", "cache": folder / "latents", "pictures": 2, "side": 128}
    TextTask(0, 2, CPU, size=Size(32, 2, 2), **sizes).export(run_of(folder / "text") / "export")
    ClassTask(0, 2, CPU, size=Size(32, 2, 2), **sizes).export(run_of(folder / "class") / "export")
    clips = run_of(folder / "video-vae")
    new_video_vae(AutoencoderKL.from_pretrained(vae / "export")).save_pretrained(clips / "export")
    sizes |= {"vae": clips / "export", "side": 64}
    VideoTask(0, 2, CPU, size=Size(32, 2, 2), **sizes).export(run_of(folder / "video") / "export")
    return {
        "demo:text": [vae, folder / "text"],
        "demo:class": [vae, folder / "class"],
        "demo:video": [vae, clips, folder / "video"],
    }


@pytest.fixture(params=["demo:text", "demo:class", "demo:video"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demos' folders are put in these tests."""
    monkeypatch.setattr(ship, "demo_folder", lambda name: tmp_path / "shelf" / name.removeprefix("demo:"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def figures(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        path = tmp_path / "figures.json"
        path.write_text(json.dumps(FIGURES[name]))
        return path

    return write


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_stock_diffusers_loads_and_draws(name: str, runs: dict[str, list[Path]], shelf: Path) -> None:
    folder = ship.ship(name, runs[name], None)
    assert folder.parent == shelf
    pipe = CLASSES[name].from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    dtypes = {c.dtype for c in pipe.components.values() if isinstance(c, torch.nn.Module)}
    assert dtypes == {torch.float32}  # and not two: the parts are to work together
    asked, options = ([3], {}) if name == "demo:class" else ("a red circle", {"clean_caption": False})
    if name == "demo:video":
        frames = pipe(asked, num_inference_steps=2, height=64, width=64, num_frames=9, **options).frames[0]
        assert [frame.size for frame in frames] == [(64, 64)] * 9
    else:
        assert pipe(asked, num_inference_steps=2, **options).images[0].size == (256, 256)


def test_classes_keep_their_names(runs: dict[str, list[Path]], shelf: Path) -> None:
    folder = ship.ship("demo:class", runs["demo:class"], None)
    assert DiTPipeline.from_pretrained(folder).get_label_ids(["3", "9"]) == [3, 9]


def test_weights_are_the_runs_in_half_precision(name: str, runs: dict[str, list[Path]], shelf: Path) -> None:
    folder, export = ship.ship(name, runs[name], None), runs[name][-1] / "export"
    files = [path.relative_to(export) for path in export.rglob("*.safetensors")]
    assert len(files) == (2 if name == "demo:class" else 3)
    for file in files:
        kept, had = load_file(folder / file), load_file(export / file)
        assert {weight.dtype for weight in kept.values()} == {torch.float16}
        torch.testing.assert_close(kept, {key: weight.half() for key, weight in had.items()}, rtol=0, atol=0)


def test_nothing_says_where_it_was_made(name: str, runs: dict[str, list[Path]], shelf: Path, tmp_path: Path) -> None:
    folder = ship.ship(name, runs[name], None)
    for path in folder.rglob("*"):
        if path.suffix in {".json", ".md"}:
            assert str(runs[name][0].parent) not in path.read_text(), path
            assert str(tmp_path) not in path.read_text(), path


def test_the_card_holds_the_figures(
    name: str, runs: dict[str, list[Path]], shelf: Path, figures: Callable[[str], Path]
) -> None:
    card = (ship.ship(name, runs[name], figures(name)) / "README.md").read_text()
    shares = {"demo:text": ["93.8%", "98.1%", "87.1%"], "demo:class": ["96.1%"]}
    shares["demo:video"] = ["86.1%", "50.0%", "91.0%"]
    assert re.findall(r"^\| [\w, ]+ \| ([\d.]+%) \|$", card, re.M) == shares[name]
    goal = {
        "demo:text": "The goal, 90% of “all claims of a prompt”, is reached.",
        "demo:class": "The goal, 97% of “right class”, is not reached.",
        "demo:video": "The goal, 85% of “shape, colour and direction”, is reached.",
    }
    assert goal[name] in card
    assert f"python -m tocache.demo.measure {name} --prompts 512" in card


def test_the_card_holds_the_training_and_the_model(name: str, runs: dict[str, list[Path]], shelf: Path) -> None:
    folder = ship.ship(name, runs[name], None)
    card = (folder / "README.md").read_text()
    for run in runs[name]:
        command = f"python -m tocache.demo.train {run.name} --steps 7"
        assert f"| `{command}` | 123,456 | 42 | 2 threads of Some CPU, torch 9.9.9 |" in card
    assert "Not yet measured." in card
    video = name == "demo:video"
    assert f"{'2 spatial and 2 temporal' if video else 2} blocks, 32 wide" in card
    assert ("48 tokens, 9 frames of 64 × 64 pixels" if video else "256 tokens, 256 × 256 pixels") in card
    pipe = CLASSES[name].from_pretrained(folder)
    assert f"`{type(pipe).__name__}` with `{type(pipe.transformer).__name__}`" in card
    assert f"{sum(p.numel() for p in pipe.transformer.parameters()) / 1e6:.1f} M parameters" in card
    assert "Apache-2.0" in card
    assert ("CC BY 4.0" in card) == (name == "demo:class")
    assert (folder / "samples.png").read_bytes() == (runs[name][-1] / "sample.png").read_bytes()


def test_only_what_a_cpu_made_is_called_the_small_one(runs: dict[str, list[Path]]) -> None:
    pipe = DiffusionPipeline.from_pretrained(runs["demo:class"][-1] / "export")
    facts = [json.loads((run / "run.json").read_text()) for run in runs["demo:class"]]
    assert "the small one" in ship.model_card("demo:class", pipe, facts, None)
    facts[-1]["device"] = "NVIDIA H100"
    assert "the small one" not in ship.model_card("demo:class", pipe, facts, None)


def test_too_large_is_refused_and_what_was_there_stays(
    runs: dict[str, list[Path]], shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ship.ship("demo:class", runs["demo:class"], None)
    before = files_of(shelf)
    size = sum(len(content) for content in files_of(folder).values())
    monkeypatch.setattr(ship, "LIMIT", size - 1)
    with pytest.raises(OptionError, match=f"has {size:,} bytes; allowed: {size - 1:,}"):
        ship.ship("demo:class", runs["demo:class"], None)
    assert files_of(shelf) == before
    monkeypatch.setattr(ship, "LIMIT", size)
    ship.ship("demo:class", runs["demo:class"], None)
    assert files_of(shelf) == before


def test_a_new_one_replaces_the_old_one_whole(
    runs: dict[str, list[Path]], shelf: Path, figures: Callable[[str], Path]
) -> None:
    folder = ship.ship("demo:class", runs["demo:class"], None)
    (folder / "old").write_text("left over")
    ship.ship("demo:class", runs["demo:class"], figures("demo:class"))
    assert not (folder / "old").exists()
    assert "Not yet measured." not in (folder / "README.md").read_text()
    assert [path.name for path in shelf.iterdir()] == ["class"]


def test_what_cannot_be_read_leaves_what_was_there(runs: dict[str, list[Path]], shelf: Path, tmp_path: Path) -> None:
    ship.ship("demo:class", runs["demo:class"], None)
    before = files_of(shelf)
    with pytest.raises(FileNotFoundError):
        ship.ship("demo:class", runs["demo:class"], tmp_path / "no such figures.json")
    with pytest.raises(FileNotFoundError):
        ship.ship("demo:class", [tmp_path / "no such run"], None)
    assert files_of(shelf) == before


def test_unknown_demos_are_refused(runs: dict[str, list[Path]]) -> None:
    with pytest.raises(UnknownNameError, match="demo:class"):
        ship.ship("demo:clas", runs["demo:class"], None)
