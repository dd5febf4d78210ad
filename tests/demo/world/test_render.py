"""Rendering: the picture shows what the scene holds, where it holds it, at every resolution and time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tocache.demo.world.render import DISTANCES, RGB, background_picture, label_map, render, render_clip
from tocache.demo.world.scene import BACKGROUNDS, COLOURS, SHAPES, Background, Kind, Scene, Thing, draw_scene

seeds = st.integers(0, 2**32)
indices = st.integers(0, 2**41)
times = st.sampled_from((0.0, 0.3, 1.0))
kinds = st.sampled_from(("picture", "clip"))
GREY = Background("gradient", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), (0.0,) * 8)
AREAS = {  # of a thing of radius 1, from its corners and circles
    "circle": math.pi * 0.95**2,
    "square": 1.64**2,
    "triangle": 3 * math.sqrt(3) * 0.6**2,  # of the inner radius 0.6
    "star": 5 * 1.08 * 0.48 * math.sin(math.pi / 5),
    "ring": math.pi * (0.98**2 - 0.50**2),
    "cross": 4 * 0.98 * 0.64 - 0.64**2,
}


def alone(shape: str, **changes: float) -> Scene:
    thing = Thing(shape, "black", "large", 0.5, 0.5, 0.2)
    return Scene((replace(thing, **changes),), GREY, "", ())


def inside(thing: Thing, time: float) -> tuple[float, float]:
    """A place well within a thing: its middle; of a ring, on the band."""
    x, y = thing.at(time)
    if thing.shape == "ring":
        x += 0.74 * thing.radius
    return x, y


def clear_of_each_other(scene: Scene) -> bool:
    """Whether corners, too, and edges of half a pixel, stay apart: they stick out by at most a third of the radius."""
    pairs = [(one, other) for i, one in enumerate(scene.things) for other in scene.things[:i]]
    return all(math.dist((a.x, a.y), (b.x, b.y)) > 1.35 * (a.radius + b.radius) + 0.04 for a, b in pairs)


@given(seed=seeds, index=indices, kind=kinds, time=times)
@settings(deadline=None, max_examples=50)
def test_a_things_middle_has_its_colour(seed: int, index: int, kind: Kind, time: float) -> None:
    scene = draw_scene(seed, index, kind)
    picture = render([scene], 128, time=time)[0]
    for thing in scene.things:
        x, y = inside(thing, time)
        colour = picture[:, int(y * 128), int(x * 128)]
        assert (colour - torch.tensor(RGB[thing.colour])).abs().max() < 0.06  # shading: 0.10 · 0.74 / 2, and a pixel
        nearest = min(RGB, key=lambda name: float((colour - torch.tensor(RGB[name])).norm()))
        assert nearest == thing.colour


@given(seed=seeds, index=indices, kind=kinds, time=times)
@settings(deadline=None, max_examples=50)
def test_far_from_all_things_is_the_background_alone(seed: int, index: int, kind: Kind, time: float) -> None:
    scene = draw_scene(seed, index, kind)
    picture = render([scene], 64, time=time)[0]
    line = (torch.arange(64) + 0.5) / 64
    outside = torch.ones(64, 64, dtype=torch.bool)
    for thing in scene.things:
        x, y = thing.at(time)
        outside &= torch.hypot(line[None] - x, line[:, None] - y) > 1.35 * thing.radius + 0.02
    assert torch.equal(picture[:, outside], background_picture(scene.background, 64).clamp(0, 1)[:, outside])


@given(seed=seeds, index=indices, kind=kinds, time=times)
@settings(deadline=None, max_examples=30)
def test_two_resolutions_agree(seed: int, index: int, kind: Kind, time: float) -> None:
    scene = [draw_scene(seed, index, kind)]
    small, large = render(scene, 64, time=time), render(scene, 256, time=time)
    difference = (small - F.avg_pool2d(large, 4)).abs()
    assert difference.mean() < 0.005
    assert difference.max() < 0.4  # at the tips of stars


@given(seed=seeds, first=indices, number=st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_scenes_do_not_depend_on_their_neighbours(seed: int, first: int, number: int) -> None:
    scenes = [draw_scene(seed, first + i) for i in range(number)]
    assume(all(clear_of_each_other(scene) for scene in scenes))  # where corners meet, the order of painting is seen
    together, labels = render(scenes, 32), label_map(scenes, 4)
    for i, scene in enumerate(scenes):
        torch.testing.assert_close(together[i], render([scene], 32)[0], rtol=0, atol=1e-6)
        assert torch.equal(labels[i], label_map([scene], 4)[0])


def test_pictures_are_floats_between_0_and_1() -> None:
    pictures = render([draw_scene(1, i) for i in range(64)], 64)
    assert pictures.shape == (64, 3, 64, 64)
    assert pictures.dtype == torch.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_area_that_geometry_gives(shape: str) -> None:
    side = 512
    ink = (0.5 - render([alone(shape)], side)[0].mean(0)) / 0.5  # black on grey: 1 inside, but for the shading
    area = (ink > 0.5).float().mean() / 0.2**2
    assert area == pytest.approx(AREAS[shape], rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_mirror_images_of_themselves_when_upright(shape: str) -> None:
    u, v = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    distance = DISTANCES[shape](u, v)
    torch.testing.assert_close(distance, DISTANCES[shape](-u, v))
    if shape in {"circle", "square", "ring", "cross"}:
        torch.testing.assert_close(distance, DISTANCES[shape](v, u))
    else:  # a corner or tip up, none down
        above, below = (DISTANCES[shape](torch.tensor(0.0), torch.tensor(y)) for y in (-0.97, 0.97))
        assert above < 0 < below


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_one_pixel_wide(shape: str) -> None:
    """Distances have slope 1 at the edge, so that it is as soft as a pixel at every size."""
    u, v = torch.rand(2, 20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.8 - 1.4
    u.requires_grad_(), v.requires_grad_()
    distance = DISTANCES[shape](u, v)
    distance.sum().backward()
    assert u.grad is not None
    assert v.grad is not None
    slope = torch.hypot(u.grad, v.grad)[distance.abs() < 0.1]
    assert slope.quantile(0.02) > 0.95
    assert slope.quantile(0.98) < 1.05


def test_a_turn_is_clockwise() -> None:
    """y grows downwards: an upright triangle, turned a little, moves its upper corner to the right."""

    def corner(angle: float) -> float:
        ink = render([alone("triangle", angle=angle)], 256)[0].mean(0) < 0.25
        row = int(ink.any(dim=1).nonzero()[0])
        return float(ink[row].nonzero().float().mean())

    assert corner(0.2) > corner(0.0) + 5
    assert corner(-0.2) < corner(0.0) - 5


def test_things_of_one_shape_in_one_scene_are_both_painted() -> None:
    things = (
        Thing("star", "red", "large", 0.25, 0.5, 0.18),
        Thing("star", "blue", "large", 0.75, 0.5, 0.18),
    )
    both = render([Scene(things, GREY, "", ())], 64)[0]
    left, right = (render([Scene((thing,), GREY, "", ())], 64)[0] for thing in things)
    torch.testing.assert_close(both[..., :32], left[..., :32])
    torch.testing.assert_close(both[..., 32:], right[..., 32:])


@given(seed=seeds, index=indices, time=times)
@settings(deadline=None, max_examples=30)
def test_a_moving_thing_is_painted_where_it_is(seed: int, index: int, time: float) -> None:
    """A clip's frame is the picture of a scene that stands there."""
    scene = draw_scene(seed, index, "clip")
    there = tuple(replace(t, x=t.at(time)[0], y=t.at(time)[1], motion=(0.0, 0.0)) for t in scene.things)
    torch.testing.assert_close(render([scene], 64, time=time), render([replace(scene, things=there)], 64))


def test_clips_go_from_start_to_end() -> None:
    scenes = [draw_scene(0, i, "clip") for i in range(3)]
    clip = render_clip(scenes, 32, 5)
    assert clip.shape == (3, 5, 3, 32, 32)
    for frame, time in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        assert torch.equal(clip[:, frame], render(scenes, 32, time=time))
    assert torch.equal(render_clip(scenes, 32, 1)[:, 0], clip[:, 0])


@given(seed=seeds, index=indices, kind=kinds, time=times)
@settings(deadline=None, max_examples=50)
def test_label_map_agrees_with_the_things(seed: int, index: int, kind: Kind, time: float) -> None:
    scene = draw_scene(seed, index, kind)
    labels = label_map([scene], 16, time=time)[0]
    numbers = {1 + SHAPES.index(t.shape) * len(COLOURS) + COLOURS.index(t.colour): t for t in scene.things}
    assert set(labels.unique().tolist()) == {0, *numbers}
    shares = {number: covered(thing, *thing.at(time), cells=16) for number, thing in numbers.items()}
    for number, thing in numbers.items():
        x, y = thing.at(time)
        row, column = (labels == number).nonzero().T
        distance = torch.hypot((column + 0.5) / 16 - x, (row + 0.5) / 16 - y)
        assert distance.max() < 1.35 * thing.radius + 0.045  # half a cell's diagonal beyond the farthest corner
        # a cell belongs to a thing from a share of 0.35 on, unless the corner of another covers more of it
        share, rival = shares[number], torch.stack([*shares.values()]).amax(dim=0)
        assert (labels[(share > 0.40) & (share == rival)] == number).all()
        assert (labels[share < 0.30] != number).all()


def covered(thing: Thing, x: float, y: float, cells: int) -> torch.Tensor:
    """(cells, cells): the share of each cell that a thing at (x, y) covers, counted on 32 × 32 points."""
    line = (torch.arange(32 * cells) + 0.5) / (32 * cells)
    down, along = torch.meshgrid((line - y) / thing.radius, (line - x) / thing.radius, indexing="ij")
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    inside = DISTANCES[thing.shape](cos * along + sin * down, cos * down - sin * along) < 0
    return inside.float().view(cells, 32, cells, 32).mean(dim=(1, 3))


def test_label_map_of_a_still_scene_by_hand() -> None:
    scene = alone("square", x=0.25, y=0.75, radius=0.25 / 0.82)  # fills the lower left quarter exactly
    number = 1 + SHAPES.index("square") * len(COLOURS) + COLOURS.index("black")
    assert label_map([scene], 2)[0].tolist() == [[0, 0], [number, 0]]
    assert label_map([scene], 2).dtype == torch.int64


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds_vary_between_their_two_colours(kind: str) -> None:
    dark, light = (0.4, 0.45, 0.5), (0.6, 0.55, 0.5)
    pattern = tuple(0.1 + 0.1 * i for i in range(8))
    picture = background_picture(Background(kind, (dark, light), pattern), 64)
    assert picture.shape == (3, 64, 64)
    low, high = torch.tensor(dark)[:, None, None], torch.tensor(light)[:, None, None]
    assert (picture >= torch.minimum(low, high) - 1e-6).all()
    assert (picture <= torch.maximum(low, high) + 1e-6).all()
    assert picture[0].std() > 0.03  # not flat: tokens are to differ
    assert picture[2].std() < 1e-6  # where the colours agree
    steps = torch.cat([picture.diff(dim=1).abs().flatten(), picture.diff(dim=2).abs().flatten()])
    assert steps.max() < 0.12  # smooth: never from one colour to the other at once
