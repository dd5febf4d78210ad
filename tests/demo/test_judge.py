"""The judge: what it makes of answers, what it says of claims, and, of the one that ships, whether it reads well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tocache.demo import judge as module
from tocache.demo.judge import (
    CELLS,
    SIDE,
    WIDTH,
    Judge,
    Seen,
    check,
    load_judge,
    look,
    perceptual_distance,
    pooled_features,
    read_digits,
    split_answers,
)
from tocache.demo.train.judge import JudgeTask, accuracy, digit_accuracy, reads_right, targets
from tocache.demo.world.render import render, render_clip
from tocache.demo.world.scene import COLOURS, SHAPES, Claim, Kind, Scene, draw_scene
from tocache.errors import OptionError

CPU = torch.device("cpu")
HELD_OUT = 2**40 + 2**30  # neither trained on nor measured with


class Told(Judge):
    """A judge that gives answers it was told."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, pictures: Tensor) -> Tensor:
        return self.answers


def perfect_answers(scenes: list[Scene]) -> Tensor:
    """What a judge that knows the truth would answer."""
    target, _, where, truth = targets(scenes, CPU)
    answers = torch.zeros(len(scenes), 1 + len(SHAPES) + len(COLOURS) + 3, CELLS, CELLS)
    presence, shape, colour, place = split_answers(answers)
    presence.copy_(10 * target[:, None] - 5)
    for (b, row, column), (s, c, *rest) in zip(where.tolist(), truth.tolist(), strict=True):
        shape[b, int(s), row, column] = 8
        colour[b, int(c), row, column] = 8
        place[b, :, row, column] = torch.tensor(rest)
    return answers


def seen_by_truth(scene: Scene, time: float = 0.0) -> list[Seen]:
    return [Seen(t.shape, t.colour, *t.at(time), t.radius, 1.0) for t in scene.things]


@pytest.fixture(scope="module")
def fresh() -> Judge:
    torch.manual_seed(0)
    return Judge().eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return render([draw_scene(0, i) for i in range(6)], SIDE)


@pytest.fixture
def empty_cache() -> Iterator[None]:
    load_judge.cache_clear()
    yield
    load_judge.cache_clear()


@given(seed=st.integers(0, 2**32), index=st.integers(0, 2**41), kind=st.sampled_from(("picture", "clip")))
@settings(deadline=None, max_examples=50)
def test_true_answers_are_read_as_the_scene(seed: int, index: int, kind: Kind) -> None:
    scenes = [draw_scene(seed, index + i, kind) for i in range(2)]
    for scene, seen in zip(scenes, look(torch.zeros(2, 3, SIDE, SIDE), Told(perfect_answers(scenes))), strict=True):
        assert reads_right(scene, seen, near=1e-5)
        assert {thing.size for thing in seen} == {thing.size for thing in scene.things}


def test_only_peaks_are_things_and_the_surest_come_first() -> None:
    answers = torch.zeros(1, 1 + len(SHAPES) + len(COLOURS) + 3, CELLS, CELLS)
    presence, shape, _, place = split_answers(answers)
    presence.fill_(-5)
    presence[0, 0, 4, 7] = 1.0
    presence[0, 0, 4, 8] = 0.9  # beside a surer one
    presence[0, 0, 12, 3] = 3.0
    presence[0, 0, 8, 8] = -0.1  # less likely than not
    shape[0, SHAPES.index("star"), 4, 7] = 2
    place[0, :, 4, 7] = torch.tensor([0.25, -0.5, 1.6])
    (seen,) = look(torch.zeros(1, 3, SIDE, SIDE), Told(answers))
    assert [(thing.shape, thing.colour) for thing in seen] == [(SHAPES[0], COLOURS[0]), ("star", COLOURS[0])]
    assert [thing.certainty for thing in seen] == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1))])
    assert (seen[1].x, seen[1].y, seen[1].radius) == pytest.approx((7.75 / 16, 4.0 / 16, 0.1))


@given(seed=st.integers(0, 2**32), index=st.integers(0, 2**41), kind=st.sampled_from(("picture", "clip")))
@settings(deadline=None, max_examples=200)
def test_all_claims_hold_of_the_truth(seed: int, index: int, kind: Kind) -> None:
    scene = draw_scene(seed, index, kind)
    later = seen_by_truth(scene, 1.0) if kind == "clip" else None
    assert all(check(scene.claims, seen_by_truth(scene), later))


RED = Seen("circle", "red", 0.2, 0.5, 0.11, 0.9)
BLUE = Seen("square", "blue", 0.8, 0.5, 0.19, 0.8)
CLAIMS = {
    "count": Claim("count", "2"),
    "red": Claim("thing", "red circle", 0),
    "blue": Claim("thing", "blue square", 1),
    "small": Claim("size", "small", 0),
    "large": Claim("size", "large", 1),
    "place": Claim("place", "left", 0),
    "relation": Claim("relation", "left of", 0, 1),
}


@pytest.mark.parametrize(
    ("seen", "false"),
    [
        ([RED, BLUE], set()),
        ([BLUE, RED], set()),
        ([RED], {"count", "blue", "large", "relation"}),
        ([], set(CLAIMS)),
        ([RED, BLUE, replace(RED, colour="green")], {"count"}),
        ([replace(RED, colour="blue"), BLUE], {"red", "small", "place", "relation"}),
        ([replace(RED, shape="ring"), BLUE], {"red", "small", "place", "relation"}),
        ([replace(RED, radius=0.19), replace(BLUE, radius=0.11)], {"small", "large"}),
        ([replace(RED, radius=0.14), BLUE], {"small"}),
        ([replace(RED, x=0.7), BLUE], {"place"}),
        ([replace(RED, x=0.9), BLUE], {"place", "relation"}),
        ([replace(RED, y=0.95), replace(BLUE, x=0.3)], {"relation"}),
    ],
)
def test_claims_by_hand(seen: list[Seen], false: set[str]) -> None:
    held = check(tuple(CLAIMS.values()), seen)
    assert {name for name, holds in zip(CLAIMS, held, strict=True) if not holds} == false


@pytest.mark.parametrize(
    ("moved", "holds"),
    [((0.3, 0.0), True), ((0.3, 0.2), True), ((0.03, 0.0), False), ((-0.1, 0.0), False), ((0.2, 0.3), False)],
)
def test_motion_needs_a_later_look(moved: tuple[float, float], holds: bool) -> None:
    claims = (Claim("thing", "red circle"), Claim("motion", "right"))
    later = replace(RED, x=RED.x + moved[0], y=RED.y + moved[1])
    assert check(claims, [RED], [later]) == [True, holds]
    assert check(claims, [RED]) == [True, False]
    assert check(claims, [RED], [replace(later, colour="blue")]) == [True, False]


def test_shapes_of_what_a_judge_says(fresh: Judge, pictures: Tensor) -> None:
    parts = split_answers(fresh(pictures))
    assert [part.shape for part in parts] == [(6, n, CELLS, CELLS) for n in (1, len(SHAPES), len(COLOURS), 3)]
    assert fresh.features(pictures).shape == (6, WIDTH, CELLS, CELLS)
    assert len(look(pictures, fresh)) == 6
    assert all(digit in range(10) for digit in read_digits(pictures, fresh))


def test_digits_are_the_likeliest(fresh: Judge, pictures: Tensor) -> None:
    coarse = F.avg_pool2d(fresh.features(pictures), CELLS // 4).flatten(1)
    logits = coarse @ fresh.digit.weight.T + fresh.digit.bias
    assert read_digits(pictures, fresh) == logits.argmax(dim=1).tolist()


def test_pooled_features_are_means_and_deviations(fresh: Judge, pictures: Tensor) -> None:
    pooled = pooled_features(pictures, fresh)
    assert pooled.shape == (6, 2 * WIDTH)
    features = fresh.features(pictures).flatten(2)
    torch.testing.assert_close(pooled[:, :WIDTH], features.mean(dim=2))
    squares = (features - features.mean(dim=2, keepdim=True)).square().sum(dim=2) / (CELLS**2 - 1)
    torch.testing.assert_close(pooled[:, WIDTH:], squares.sqrt())


def test_perceptual_distance_is_0_for_equal_pictures_alone(fresh: Judge, pictures: Tensor) -> None:
    assert torch.equal(perceptual_distance(pictures, pictures, fresh), torch.zeros(6))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    distances = [perceptual_distance(pictures + s * noise, pictures, fresh) for s in (0.01, 0.05, 0.25)]
    assert (torch.stack([torch.zeros(6), *distances]).diff(dim=0) > 0).all()
    assert torch.equal(distances[1], perceptual_distance(pictures, pictures + 0.05 * noise, fresh))
    assert distances[2].max() <= 4  # vectors of length 1 are at most 2 apart
    one, other = (fresh.features(x[:1]) for x in (pictures, pictures.flip(0)))
    cosines = F.cosine_similarity(one, other, dim=1)
    torch.testing.assert_close(
        perceptual_distance(pictures[:1], pictures[-1:], fresh), (2 - 2 * cosines).mean(dim=(1, 2))
    )


def test_pictures_are_looked_at_in_128_pixels(fresh: Judge, pictures: Tensor) -> None:
    enlarged = pictures.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(fresh(enlarged), fresh(pictures))
    torch.testing.assert_close(pooled_features(enlarged.half(), fresh), pooled_features(pictures.half(), fresh))


@pytest.mark.parametrize("size", [(128, 256), (64, 64), (192, 192), (128, 3)])
def test_other_sizes_are_refused(fresh: Judge, size: tuple[int, int]) -> None:
    picture = torch.zeros(1, 3, *size)
    for call in (look, read_digits, pooled_features):
        with pytest.raises(OptionError, match=f"{size[0]} × {size[1]} pixels; allowed: .* multiple of 128"):
            call(picture, fresh)
    with pytest.raises(OptionError):
        perceptual_distance(picture, picture, fresh)


def test_reading_keeps_no_graph(fresh: Judge, pictures: Tensor) -> None:
    assert not pooled_features(pictures, fresh).requires_grad
    assert not perceptual_distance(pictures, pictures, fresh).requires_grad


@pytest.mark.usefixtures("empty_cache")
def test_the_judge_is_loaded_from_its_file_once(
    fresh: Judge, pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = JudgeTask(0, 8, CPU)
    task.judge.load_state_dict(fresh.state_dict())
    task.export(tmp_path)
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "judge.safetensors")
    assert load_judge() is load_judge()
    assert not load_judge().training
    kept = {name: weight.half().float() for name, weight in fresh.state_dict().items()}  # files hold half precision
    torch.testing.assert_close(dict(load_judge().state_dict()), kept, rtol=0, atol=0)
    torch.testing.assert_close(pooled_features(pictures), pooled_features(pictures, fresh), atol=0.05, rtol=0.05)


@pytest.mark.slow
def test_the_shipped_judge_reads_held_out_scenes_and_digits() -> None:
    judge = load_judge()
    assert accuracy(judge, 1, 512, CPU) >= 0.98
    assert digit_accuracy(judge, 1, 512, CPU) >= 0.98


@pytest.mark.slow
def test_the_shipped_judge_finds_the_claims_of_held_out_captions() -> None:
    scenes = [draw_scene(2, HELD_OUT + i) for i in range(256)]
    seen = [found for first in range(0, 256, 64) for found in look(render(scenes[first : first + 64], 256))]
    right = sum(all(check(scene.claims, found)) for scene, found in zip(scenes, seen, strict=True))
    assert right / len(scenes) >= 0.97
    mixed = sum(all(check(scene.claims, found)) for scene, found in zip(scenes, seen[1:], strict=False))
    assert mixed / len(scenes) <= 0.03  # and does not find them in other scenes


@pytest.mark.slow
def test_the_shipped_judge_reads_the_direction_of_clips() -> None:
    scenes = [draw_scene(1, HELD_OUT + i, "clip") for i in range(256)]
    held: list[bool] = []
    for first in range(0, len(scenes), 64):
        some = scenes[first : first + 64]
        start, end = (look(render_clip(some, 256, 2)[:, frame]) for frame in (0, 1))
        for scene, before, after in zip(some, start, end, strict=True):
            pairs = zip(scene.claims, check(scene.claims, before, after), strict=True)
            held += [holds for claim, holds in pairs if claim.kind == "motion"]
    assert len(held) >= 256
    assert sum(held) / len(held) >= 0.95


@pytest.mark.slow
def test_the_shipped_judges_distance_grows_with_the_difference() -> None:
    """A moved thing is less different than another scene, and a blurred picture less than a moved thing."""
    scenes = [draw_scene(3, HELD_OUT + i) for i in range(32)]
    plain = render(scenes, 128)
    nudged = [
        replace(scene, things=(replace(scene.things[0], x=scene.things[0].x * 0.9 + 0.05), *scene.things[1:]))
        for scene in scenes
    ]
    soft = F.avg_pool2d(F.pad(plain, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    distances = [perceptual_distance(x, plain).mean() for x in (soft, render(nudged, 128), plain.roll(1, dims=0))]
    assert 0 < distances[0] < distances[1] < distances[2]
