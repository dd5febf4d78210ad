"""Measuring: a perfect painter gets full marks, wrong pictures get low ones, and the figures add up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from tocache.demo import measure
from tocache.demo.judge import Seen
from tocache.demo.measure import HELD_OUT, app, drawer, measure_classes, measure_text, measure_video
from tocache.demo.random_pipelines import random_class_pipeline, random_text_pipeline
from tocache.demo.world.digits import draw_digit, render_digits
from tocache.demo.world.render import render, render_clip
from tocache.demo.world.scene import Scene, draw_scene

KINDS = {"count", "thing", "size", "place", "relation"}


def scenes_of(captions: Sequence[str], seed: int = 0) -> list[Scene]:
    """The held-out scenes that captions come from."""
    known = {scene.caption: scene for scene in (draw_scene(seed, HELD_OUT + i) for i in range(128))}
    return [known[caption] for caption in captions]


def paint(captions: Sequence[Any], seed: int) -> Tensor:
    """What a perfect model would draw."""
    return render(scenes_of(captions), 128)


def write(labels: Sequence[Any], seed: int) -> Tensor:
    """A picture of each digit, of the held-out ones."""
    found = [
        next(d for d in (draw_digit(seed, i * 1000 + n, held_out=True) for n in range(1000)) if d.label == label)
        for i, label in enumerate(labels)
    ]
    return render_digits(found, 256)


class Painted:
    """Pictures that carry what is to be seen in them past the judge: `look` is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, view: Callable[[Scene], list[Seen]]) -> None:
        self.asked: list[str] = []
        self.seeds: list[int] = []
        self.view = view
        monkeypatch.setattr(measure, "look", self.look)

    def draw(self, captions: Sequence[Any], seed: int) -> Tensor:
        self.asked += captions
        self.seeds.append(seed)
        return torch.zeros(len(captions), 3, 128, 128)

    def look(self, pictures: Tensor) -> list[list[Seen]]:
        return [self.view(scene) for scene in scenes_of(self.asked[-len(pictures) :])]


def truth(scene: Scene) -> list[Seen]:
    return [Seen(t.shape, t.colour, t.x, t.y, t.radius, 1.0) for t in scene.things]


def test_the_truth_gets_full_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    painted = Painted(monkeypatch, truth)
    figures = measure_text(painted.draw, 40)
    assert figures == {"prompts": 40, "all claims of a prompt": 1.0, "claims": 1.0, **dict.fromkeys(KINDS, 1.0)}
    assert painted.asked == [draw_scene(0, HELD_OUT + i).caption for i in range(40)]
    assert len(set(painted.seeds)) == len(painted.seeds)  # no batch repeats another's noise


def test_shares_are_those_of_the_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A painter who gets the colour of every first thing wrong; counted here again."""
    scenes = [draw_scene(0, HELD_OUT + i) for i in range(50)]

    def recoloured(scene: Scene) -> list[Seen]:
        first, *others = truth(scene)
        return [Seen(first.shape, "grey", first.x, first.y, first.radius, 1.0), *others]

    figures = measure_text(Painted(monkeypatch, recoloured).draw, 50)
    claims = [claim for scene in scenes for claim in scene.claims]

    def share(kind: str) -> float:
        mine = [claim for claim in claims if claim.kind == kind]
        return sum(kind == "count" or claim.subject > 0 for claim in mine) / len(mine)

    assert {kind: figures[kind] for kind in KINDS} == pytest.approx({kind: share(kind) for kind in KINDS})
    assert figures["all claims of a prompt"] == 0
    right = sum(claim.kind == "count" or claim.subject > 0 for claim in claims)
    assert figures["claims"] == pytest.approx(right / len(claims))


def test_one_wrong_claim_fails_a_whole_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = draw_scene(0, HELD_OUT + 3).caption

    def doubled(scene: Scene) -> list[Seen]:
        return truth(scene) * (2 if scene.caption == bad else 1)

    figures = measure_text(Painted(monkeypatch, doubled).draw, 20)
    assert figures["all claims of a prompt"] == pytest.approx(19 / 20)
    assert figures["count"] == pytest.approx(19 / 20)
    assert figures["thing"] == 1


def test_kinds_that_no_caption_claims_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = measure_text(Painted(monkeypatch, truth).draw, 1)
    kinds = {claim.kind for claim in draw_scene(0, HELD_OUT).claims}
    assert figures.keys() == {"prompts", "all claims of a prompt", "claims", *kinds}


class Filmed:
    """Clips whose pixels name scene and time, for a judge that is told what is to be seen then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, times: Sequence[float] = (0.0, 0.5, 1.0)) -> None:
        self.asked: list[str] = []
        self.times = times
        self.scenes = [draw_scene(0, HELD_OUT + i, "clip") for i in range(64)]
        monkeypatch.setattr(measure, "look", self.look)

    def draw(self, captions: Sequence[Any], seed: int) -> Tensor:
        numbers = range(len(self.asked), len(self.asked) + len(captions))
        self.asked += captions
        clips = torch.tensor([[[number, time, 0.0] for time in self.times] for number in numbers])
        return clips[:, :, :, None, None].expand(-1, -1, -1, 8, 8)

    def look(self, pictures: Tensor) -> list[list[Seen]]:
        found = []
        for number, time in pictures[:, :2, 0, 0].tolist():
            places = [(t, *t.at(time)) for t in self.scenes[int(number)].things]
            found.append([Seen(t.shape, t.colour, x, y, t.radius, 1.0) for t, x, y in places])
        return found


def test_true_clips_get_full_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    filmed = Filmed(monkeypatch)
    figures = measure_video(filmed.draw, 40)
    whole = ("shape, colour and direction", "all claims of a prompt", "claims")
    assert figures == {"prompts": 40, **dict.fromkeys([*whole, "count", "thing", "size", "motion"], 1.0)}
    assert filmed.asked == [scene.caption for scene in filmed.scenes[:40]]


@pytest.mark.parametrize("times", [(1.0, 0.5, 0.0), (0.0, 1.0, 0.0)], ids=["backwards", "and back again"])
def test_clips_that_move_otherwise_are_told(times: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> None:
    figures = measure_video(Filmed(monkeypatch, times=times).draw, 20)
    assert figures["motion"] == figures["shape, colour and direction"] == figures["all claims of a prompt"] == 0
    assert figures["thing"] == figures["count"] == figures["size"] == 1


def test_digits_are_asked_for_in_turn_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def draw(digits: Sequence[Any], seed: int) -> Tensor:
        asked.extend(digits)
        return torch.zeros(len(digits), 3, 128, 128)

    monkeypatch.setattr(measure, "read_digits", lambda pictures: [d if d != 4 else 9 for d in asked[-len(pictures) :]])
    assert measure_classes(draw, 50) == {"pictures": 50, "right class": 0.9}
    assert asked == list(range(10)) * 5


@pytest.mark.parametrize("build", [random_text_pipeline, random_class_pipeline])
def test_a_drawer_gives_pictures_of_a_pipeline(build: Callable[..., Any]) -> None:
    pipe = build(depth=1, hidden=16, sample_size=32)
    pipe.set_progress_bar_config(disable=True)
    draw, asked = drawer(pipe), (["a red circle", "sea"] if hasattr(pipe, "text_encoder") else [3, 4])
    first = draw(asked, 5)
    assert first.shape == (2, 3, 256, 256)
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, draw(asked, 5))
    assert not torch.equal(first, draw(asked, 6))


def test_arrays_with_channels_last_are_turned() -> None:
    """Of DiTPipeline before diffusers 0.41."""

    class Old:
        def __call__(self, labels: list[int], **_: Any) -> Any:
            pictures = np.zeros((len(labels), 8, 8, 3), dtype=np.float32)
            pictures[..., 1, 2] = 1
            return type("Output", (), {"images": pictures})

    pictures = drawer(Old())([1, 2], 0)
    assert pictures.shape == (2, 3, 8, 8)
    assert pictures[:, 2, :, 1].min() == 1


def test_the_command_prints_and_writes_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = random_class_pipeline(depth=1, hidden=16, sample_size=32)
    pipe.save_pretrained(tmp_path / "pipe")
    monkeypatch.setattr(measure, "read_digits", lambda pictures: [1] * len(pictures))
    arguments = [str(tmp_path / "pipe"), "--prompts", "4", "-o", str(tmp_path / "figures.json")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    figures = {"model": str(tmp_path / "pipe"), "pictures": 4, "right class": 0.25}
    written = json.loads((tmp_path / "figures.json").read_text())
    assert {name: written.pop(name) for name in figures} == figures
    assert set(written) == {"hardware", "device", "versions", "commit", "command", "time"}


@pytest.mark.slow
def test_the_shipped_judge_praises_the_renderer() -> None:
    figures = measure_text(paint, 128)
    assert figures["all claims of a prompt"] >= 0.97
    assert min(figures[kind] for kind in KINDS) >= 0.97


@pytest.mark.slow
def test_the_shipped_judge_reads_motion() -> None:
    scenes = [draw_scene(0, HELD_OUT + i, "clip") for i in range(48)]
    films = {scene.caption: scene for scene in scenes}

    def film(captions: Sequence[Any], seed: int) -> Tensor:
        return render_clip([films[caption] for caption in captions], 128, 9)

    assert measure_video(film, 48)["shape, colour and direction"] >= 0.95
    assert measure_video(lambda captions, seed: film(captions, seed).flip(1), 48)["motion"] == 0


@pytest.mark.slow
def test_the_shipped_judge_sees_through_wrong_pictures() -> None:
    others = measure_text(lambda captions, seed: paint(captions, seed).roll(1, dims=0), 64)
    assert others["all claims of a prompt"] <= 0.1
    assert others["thing"] <= 0.15
    noise = measure_text(lambda captions, seed: torch.rand(len(captions), 3, 128, 128), 32)
    assert noise["all claims of a prompt"] <= 0.05
    mirrored = measure_text(lambda captions, seed: paint(captions, seed).flip(3), 128)
    assert mirrored["thing"] >= 0.95
    assert mirrored["relation"] < 0.8  # left and right are wrong, above and below are right
    assert mirrored["place"] < 0.8


@pytest.mark.slow
def test_the_shipped_judge_reads_classes() -> None:
    assert measure_classes(write, 80)["right class"] >= 0.95
    assert measure_classes(lambda labels, seed: write([(n + 1) % 10 for n in labels], seed), 40)["right class"] <= 0.05
