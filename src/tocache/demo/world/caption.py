"""Captions: the sentences that describe a scene, and what each of them claims."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tocache.demo.world.scene import COLOURS, DIRECTIONS, SHAPES, SPEEDS, Claim, Thing, direction_of

_SIZE_IS_NAMED = 0.4  # of the things that are small or large
_PLACES = {
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "on the top"),
    "bottom": ("at the bottom", "on the bottom"),
    "centre": ("in the centre", "in the middle", "in the center"),
}
_RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_OPENINGS = ("", "", "", "a picture of ", "there is ")
_ADVERBS = {"slowly": ("slowly", "slow"), "": ("",), "fast": ("fast", "quickly")}


def describe(
    things: Sequence[Thing], dice: random.Random, place: str = "", relation: str = ""
) -> tuple[str, tuple[Claim, ...]]:
    """A caption of `things`, in words that `dice` picks, and its claims; `place` and `relation` must hold of them."""
    claims = [Claim("count", str(len(things)))]
    names = []
    for i, thing in enumerate(things):
        claims.append(Claim("thing", f"{thing.colour} {thing.shape}", i))
        size = ""
        if thing.size in ("small", "large") and dice.random() < _SIZE_IS_NAMED:
            size = dice.choice(("small", "little") if thing.size == "small" else ("large", "big")) + " "
            claims.append(Claim("size", thing.size, i))
        words = f"{size}{thing.colour} {thing.shape}"
        article = "an" if words[0] in "aeiou" else "a"
        names.append(f"{article} {words}{_moving(thing, dice, i, claims)}")
    if place:
        names[0] += f" {dice.choice(_PLACES[place])}"
        claims.append(Claim("place", place))
    if relation:
        claims.append(Claim("relation", relation, 0, 1))
        text = f"{names[0]} {dice.choice(_RELATIONS[relation])} {names[1]}"
    else:
        text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return dice.choice(_OPENINGS) + text, tuple(claims)


def _moving(thing: Thing, dice: random.Random, index: int, claims: list[Claim]) -> str:
    if thing.motion == (0.0, 0.0):
        return ""
    direction = direction_of(*thing.motion)
    claims.append(Claim("motion", direction, index))
    distance = max(map(abs, thing.motion))
    speed = min(SPEEDS, key=lambda name: abs(SPEEDS[name] - distance))
    adverb = dice.choice(_ADVERBS[speed])
    return " ".join(word for word in (" moving", adverb, direction) if word)


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, sorted."""
    words = {*SHAPES, *COLOURS, *DIRECTIONS, "a", "an", "and", ",", "moving", "small", "little", "large", "big"}
    for phrases in (*_PLACES.values(), *_RELATIONS.values(), *_ADVERBS.values(), _OPENINGS):
        for phrase in phrases:
            words.update(phrase.split())
    return tuple(sorted(words))
