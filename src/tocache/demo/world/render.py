"""Scenes to pixels, many at once, on any device.

Shapes are signed distances, so edges are smooth at every resolution; backgrounds are formulas of the place. A picture
at half the side is the same scene, not a shrunken file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tocache.demo.world.scene import COLOURS, SHAPES, Background, Scene

RGB = {
    "red": (0.87, 0.12, 0.13),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (1.00, 0.90, 0.15),
    "green": (0.10, 0.66, 0.22),
    "blue": (0.12, 0.30, 0.93),
    "purple": (0.58, 0.16, 0.78),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.05),
}
_SHADE = 0.10  # how much lighter than its middle the upper left edge of a thing is
_COVERED = 0.35  # share of a cell from which it counts as a thing's


def render(scenes: Sequence[Scene], side: int, *, time: float = 0.0, device: torch.device | str = "cpu") -> Tensor:
    """Pictures of `scenes` at `time` (0 to 1; pictures are clips that stand still).

    Returns (scenes, 3, side, side), float32, R, G, B in [0, 1].
    """
    x, y = _grid(side, device)
    picture = torch.stack([_background(scene.background, x, y) for scene in scenes])  # (scenes, 3, side, side)
    for shape, members in _by_shape(scenes).items():
        u, v, radius = _own_coordinates(scenes, members, time, x, y)  # (members, side, side) twice, (members, 1, 1)
        cover = (0.5 - DISTANCES[shape](u, v) * radius * side).clamp_(0, 1).unsqueeze(1)
        things = [scenes[s].things[t] for s, t in members]
        colour = torch.tensor([RGB[thing.colour] for thing in things], device=device)[:, :, None, None]
        shaded = colour - _SHADE * ((u + v) / 2).clamp(-1, 1).unsqueeze(1)
        index = torch.tensor([s for s, _ in members], device=device)
        # Things never touch, so that the order in which they are painted does not matter. Two of the same shape in
        # one scene are members of one batch: their contributions are added.
        picture.index_add_(0, index, cover * (shaded - picture[index]))
    return picture.clamp_(0, 1)


def render_clip(scenes: Sequence[Scene], side: int, frames: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Clips (scenes, frames, 3, side, side) of `scenes`, frames evenly spread from the start to the end."""
    times = [f / max(1, frames - 1) for f in range(frames)]
    return torch.stack([render(scenes, side, time=time, device=device) for time in times], dim=1)


def label_map(scenes: Sequence[Scene], cells: int, *, time: float = 0.0, device: torch.device | str = "cpu") -> Tensor:
    """Which thing fills each cell of a coarse grid: (scenes, cells, cells), int64.

    0 is the background, 1 + shape · colours + colour a thing (numbers as in `SHAPES` and `COLOURS`).
    """
    side = 8 * cells
    x, y = _grid(side, device)
    best = torch.full((len(scenes), cells, cells), _COVERED, device=device)
    labels = torch.zeros(len(scenes), cells, cells, dtype=torch.int64, device=device)
    for shape, members in _by_shape(scenes).items():
        u, v, radius = _own_coordinates(scenes, members, time, x, y)
        cover = (0.5 - DISTANCES[shape](u, v) * radius * side).clamp_(0, 1)
        share = F.avg_pool2d(cover.unsqueeze(1), 8).squeeze(1)  # (members, side, side) -> (members, cells, cells)
        for row, (s, t) in enumerate(members):
            number = 1 + SHAPES.index(shape) * len(COLOURS) + COLOURS.index(scenes[s].things[t].colour)
            labels[s] = torch.where(share[row] > best[s], number, labels[s])
            best[s] = torch.maximum(best[s], share[row])
    return labels


def background_picture(background: Background, side: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The background alone, (3, side, side), R, G, B in [0, 1]."""
    return _background(background, *_grid(side, device))


def _grid(side: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """x and y of the pixels' centres, (side, side) each."""
    line = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def _by_shape(scenes: Sequence[Scene]) -> dict[str, list[tuple[int, int]]]:
    """(scene, thing) of all things, by their shape."""
    members: dict[str, list[tuple[int, int]]] = {}
    for s, scene in enumerate(scenes):
        for t, thing in enumerate(scene.things):
            members.setdefault(thing.shape, []).append((s, t))
    return members


def _own_coordinates(
    scenes: Sequence[Scene], members: list[tuple[int, int]], time: float, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in which each thing stands upright at the origin with radius 1, and the radii."""
    numbers = []
    for s, t in members:
        thing = scenes[s].things[t]
        numbers.append((*thing.at(time), thing.radius, math.cos(thing.angle), math.sin(thing.angle)))
    cx, cy, radius, cos, sin = torch.tensor(numbers, device=x.device).T[:, :, None, None]
    dx, dy = (x - cx) / radius, (y - cy) / radius
    return cos * dx + sin * dy, cos * dy - sin * dx, radius


def _background(background: Background, x: Tensor, y: Tensor) -> Tensor:
    """(3, side, side)"""
    share = _PATTERNS[background.kind](x, y, background.pattern).clamp(0, 1)
    first, second = (torch.tensor(colour, device=x.device)[:, None, None] for colour in background.colours)
    return first + (second - first) * share


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.95


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.82


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    """Equilateral, a corner up; its middle a little low, so that it fills the circle around it."""
    v = v - 0.2
    return torch.maximum(u.abs() * math.sin(math.pi / 3) - v * 0.5, v) - 0.6


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points; folded into one half of one point, whose edge is a line from the tip to the notch."""
    sector = math.pi / 5
    angle = torch.remainder(torch.atan2(u, -v) + sector, 2 * sector) - sector
    length = torch.hypot(u, v)
    along, across = length * angle.cos(), length * angle.sin().abs()
    tip, notch = (1.08, 0.0), (0.48 * math.cos(sector), 0.48 * math.sin(sector))
    edge = (notch[0] - tip[0], notch[1] - tip[1])
    return ((along - tip[0]) * edge[1] - across * edge[0]) / math.hypot(*edge)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.74).abs() - 0.24


def _cross(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v.abs()
    return torch.minimum(torch.maximum(u - 0.98, v - 0.32), torch.maximum(u - 0.32, v - 0.98))


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}
"""Distance to the edge in radii, negative inside, by shape."""


def _along(x: Tensor, y: Tensor, turn: float) -> Tensor:
    """The place along a line through the middle; −0.7 to 0.7."""
    angle = 2 * math.pi * turn
    return (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)


def _gradient(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    return 0.5 + 0.8 * _along(x, y, p[0])


def _glow(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    return 1 - 1.2 * torch.hypot(x - 0.2 - 0.6 * p[0], y - 0.2 - 0.6 * p[1])


def _stripes(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    return 0.5 + 0.45 * torch.sin(2 * math.pi * ((3 + 3 * p[1]) * _along(x, y, p[0]) + p[2]))


def _checks(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    rate = 2 * math.pi * (1.5 + 1.5 * p[0])
    return 0.5 + 0.45 * torch.sin(rate * x + 6 * p[1]) * torch.sin(rate * y + 6 * p[2])


def _waves(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    bend = 0.06 * torch.sin(2 * math.pi * (2 * _along(x, y, p[0] + 0.25) + p[2]))
    return 0.5 + 0.45 * torch.sin(2 * math.pi * ((2.5 + 2 * p[1]) * (_along(x, y, p[0]) + bend) + p[3]))


def _clouds(x: Tensor, y: Tensor, p: tuple[float, ...]) -> Tensor:
    total = torch.full_like(x, 0.5)
    for k in range(4):
        total = total + 0.2 * torch.sin(2 * math.pi * ((1 + 0.7 * k) * _along(x, y, p[k]) + p[k + 4]))
    return total


_PATTERNS: dict[str, Callable[[Tensor, Tensor, tuple[float, ...]], Tensor]] = {
    "gradient": _gradient,
    "glow": _glow,
    "stripes": _stripes,
    "checks": _checks,
    "waves": _waves,
    "clouds": _clouds,
}
