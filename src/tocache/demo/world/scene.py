"""What a scene holds, and how one is drawn at random.

A scene is one to three things on a background. It is determined by a seed and an index alone, so the world is endless,
needs no download, and every picture comes with its exact truth: which things are there, where, and what the caption
claims of them.

Places and lengths are in widths of the picture; x grows to the right, y downwards.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
BACKGROUNDS = ("gradient", "glow", "stripes", "checks", "waves", "clouds")
SIZES = {"small": (0.10, 0.12), "medium": (0.13, 0.155), "large": (0.17, 0.21)}
"""Radii by name; a medium thing is never called so."""
PLACES = ("left", "right", "top", "bottom", "centre")
RELATIONS = ("left of", "right of", "above", "below")
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
SPEEDS = {"slowly": 0.16, "": 0.28, "fast": 0.42}
"""How far a thing moves in a whole clip, by the adverb of its caption."""

MARGIN = 0.02
"""Least distance between the circles of two things, and between a circle and the edge.

Corners stick out of the circle by up to a third of its radius, so that two may meet: in one scene of several hundred.
"""
TILT = math.radians(12)
"""Things are turned by at most this."""

Kind = Literal["picture", "clip"]


@dataclass(frozen=True)
class Thing:
    """A shape at (x, y) with a radius, turned by `angle` radians; in a clip it moves by `motion` from start to end."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)

    def at(self, time: float) -> tuple[float, float]:
        """Its centre at `time`, from 0 (start of the clip) to 1 (end)."""
        return self.x + time * self.motion[0], self.y + time * self.motion[1]


@dataclass(frozen=True)
class Background:
    """Two muted colours (R, G, B in [0, 1]) mixed by a pattern of the given kind; `pattern` holds its free numbers."""

    kind: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    pattern: tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """One thing that a caption says. `subject` and `object` are positions in `Scene.things`.

    kind       says of a picture
    count      there are as many things as `value`
    thing      a thing of the subject's shape and colour is there
    size       the subject is small or large
    place      the subject is at the place `value`
    relation   the subject is `value` (left of, …) the object
    motion     the subject moves in the direction `value`
    """

    kind: Literal["count", "thing", "size", "place", "relation", "motion"]
    value: str = ""
    subject: int = 0
    object: int = 0


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    background: Background
    caption: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class _Wish:
    """What the caption will say of where things are, decided before they are placed."""

    place: str = ""
    relation: str = ""


def draw_scene(seed: int, index: int, kind: Kind = "picture") -> Scene:
    """The scene number `index` of the world `seed`; of a clip, every thing moves.

    Shape and colour together tell the things of a scene apart, and things never touch.
    """
    from tocache.demo.world.caption import describe

    dice = random.Random(f"{seed}/{kind}/{index}")
    number = dice.choices((1, 2, 3), weights=(5, 4, 2) if kind == "picture" else (8, 2, 0))[0]
    looks = dice.sample([(shape, colour) for shape in SHAPES for colour in COLOURS], number)
    if kind == "clip":
        wish = _Wish()
    elif number == 1:
        wish = _Wish(place=dice.choice(("", "", *PLACES)))
    elif number == 2:
        wish = _Wish(relation=dice.choice(("", *RELATIONS)))
    else:
        wish = _Wish()
    things = None
    while things is None:
        things = _place(dice, looks, wish, kind)
    caption, claims = describe(things, dice, wish.place, wish.relation)
    return Scene(things, draw_background(dice), caption, claims)


def holds(claim: Claim, things: tuple[Thing, ...]) -> bool:
    """Whether a claim of place, relation or size is true of things with known positions, by the judge's measure."""
    subject = things[claim.subject]
    if claim.kind == "place":
        return is_at(claim.value, subject.x, subject.y)
    if claim.kind == "relation":
        other = things[claim.object]
        return is_beside(claim.value, (subject.x, subject.y), (other.x, other.y))
    if claim.kind == "size":
        return size_of(subject.radius) == claim.value
    if claim.kind == "motion":
        return direction_of(*subject.motion) == claim.value
    raise ValueError(f"claim of kind {claim.kind!r} is not about where things are")


def is_at(place: str, x: float, y: float) -> bool:
    """Whether (x, y) counts as the place called `place`."""
    if place == "centre":
        return max(abs(x - 0.5), abs(y - 0.5)) < 0.15
    return {"left": x < 0.42, "right": x > 0.58, "top": y < 0.42, "bottom": y > 0.58}[place]


def is_beside(relation: str, subject: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether `subject` stands to `other` as `relation` says: that way, and farther that way than sideways."""
    dx, dy = subject[0] - other[0], subject[1] - other[1]
    along, across = {"left of": (-dx, dy), "right of": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation]
    return along > abs(across)


def size_of(radius: float) -> str:
    """The name of the size whose radii are nearest."""
    return min(SIZES, key=lambda name: abs(sum(SIZES[name]) / 2 - radius))


def direction_of(dx: float, dy: float) -> str:
    """The direction that a motion has most of; the first one named in `DIRECTIONS` if it is none."""
    return max(DIRECTIONS, key=lambda name: dx * DIRECTIONS[name][0] + dy * DIRECTIONS[name][1])


def _place(dice: random.Random, looks: list[tuple[str, str]], wish: _Wish, kind: Kind) -> tuple[Thing, ...] | None:
    """Things at random places; None where they touch, leave the picture or do not meet the wish."""
    things = []
    for shape, colour in looks:
        size = dice.choice(tuple(SIZES))
        radius = dice.uniform(*SIZES[size])
        low, high = radius + MARGIN, 1 - radius - MARGIN
        thing = Thing(
            shape, colour, size, dice.uniform(low, high), dice.uniform(low, high), radius, dice.uniform(-TILT, TILT)
        )
        if kind == "clip":
            direction, distance = dice.choice(tuple(DIRECTIONS.values())), dice.choice(tuple(SPEEDS.values()))
            thing = replace(thing, motion=(direction[0] * distance, direction[1] * distance))
            if not all(low <= end <= high for end in thing.at(1.0)):
                return None
        things.append(thing)
    for i, one in enumerate(things):
        for other in things[:i]:
            for time in (0.0, 0.25, 0.5, 0.75, 1.0):
                if math.dist(one.at(time), other.at(time)) < one.radius + other.radius + MARGIN:
                    return None
    if wish.place and not _clearly_at(wish.place, things[0]):
        return None
    if wish.relation and not _clearly_beside(wish.relation, things[0], things[1]):
        return None
    return tuple(things)


def _clearly_at(place: str, thing: Thing) -> bool:
    """As `is_at`, with room to spare, so that a caption is never a near thing."""
    if place == "centre":
        return max(abs(thing.x - 0.5), abs(thing.y - 0.5)) < 0.08
    side = {"left": thing.x, "right": 1 - thing.x, "top": thing.y, "bottom": 1 - thing.y}[place]
    return side < 0.34


def _clearly_beside(relation: str, subject: Thing, other: Thing) -> bool:
    dx, dy = subject.x - other.x, subject.y - other.y
    along, across = {"left of": (-dx, dy), "right of": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation]
    return along > 1.4 * abs(across) + 0.05


def draw_background(dice: random.Random) -> Background:
    first = _muted(dice)
    second = _muted(dice)
    return Background(dice.choice(BACKGROUNDS), (first, second), tuple(dice.random() for _ in range(8)))


def _muted(dice: random.Random) -> tuple[float, float, float]:
    """A colour of middle lightness and little saturation: every thing stands out from it."""
    light = dice.uniform(0.36, 0.66)
    tint = [dice.uniform(-0.1, 0.1) for _ in range(3)]
    mean = sum(tint) / 3
    return (light + tint[0] - mean, light + tint[1] - mean, light + tint[2] - mean)
