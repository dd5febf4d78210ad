"""Captions: all that they claim is true, all that they say is claimed, and they use known words alone."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocache.demo.world.caption import describe, vocabulary
from tocache.demo.world.scene import COLOURS, SHAPES, SPEEDS, Claim, Kind, Scene, Thing, draw_scene, holds

seeds = st.integers(0, 2**32)
indices = st.integers(0, 2**41)
kinds = st.sampled_from(("picture", "clip"))

LOOK = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
SAID = {  # what the words of a caption mean, written down here once more
    "small": "small|little",
    "large": "large|big",
    "left": "(?:on|at) the left(?! of)",
    "right": "(?:on|at) the right(?! of)",
    "top": "(?:on|at) the top",
    "bottom": "(?:on|at) the bottom",
    "centre": "in the (?:centre|center|middle)",
    "left of": "left of",
    "right of": "right of",
    "above": "above|over",
    "below": "below|under",
}
ADVERB = {"slowly": "slowly|slow", "": "", "fast": "fast|quickly"}


def claimed(scene: Scene, kind: str) -> list[Claim]:
    return [claim for claim in scene.claims if claim.kind == kind]


@given(seed=seeds, index=indices, kind=kinds)
@settings(deadline=None)
def test_every_claim_holds_of_its_own_scene(seed: int, index: int, kind: Kind) -> None:
    scene = draw_scene(seed, index, kind)
    for claim in scene.claims:
        if claim.kind == "count":
            assert int(claim.value) == len(scene.things)
        elif claim.kind == "thing":
            thing = scene.things[claim.subject]
            assert claim.value == f"{thing.colour} {thing.shape}"
        else:
            assert holds(claim, scene.things)


@given(seed=seeds, index=indices, kind=kinds)
@settings(deadline=None)
def test_a_caption_says_what_is_claimed_and_nothing_more(seed: int, index: int, kind: Kind) -> None:
    scene = draw_scene(seed, index, kind)
    text = scene.caption
    named = [f"{colour} {shape}" for colour, shape in LOOK.findall(text)]
    assert named == [claim.value for claim in claimed(scene, "thing")]
    assert [claim.value for claim in claimed(scene, "count")] == [str(len(named))]
    for size in ("small", "large"):
        assert len(re.findall(rf"\b(?:{SAID[size]})\b", text)) == sum(c.value == size for c in claimed(scene, "size"))
    for about in ("place", "relation"):
        words = SAID.keys() - {"small", "large"}
        mine = {word for word in words if (word in {"left of", "right of", "above", "below"}) == (about == "relation")}
        said = {word for word in mine if re.search(rf"\b(?:{SAID[word]})\b", text)}
        assert said == {claim.value for claim in claimed(scene, about)}


@given(seed=seeds, index=indices)
@settings(deadline=None)
def test_the_caption_of_a_clip_says_how_each_thing_moves(seed: int, index: int) -> None:
    scene = draw_scene(seed, index, "clip")
    parts = re.split(r", | and ", scene.caption)
    assert len(parts) == len(scene.things) == len(claimed(scene, "motion"))
    for part, thing, claim in zip(parts, scene.things, claimed(scene, "motion"), strict=True):
        distance = max(map(abs, thing.motion))
        (adverb,) = (name for name, speed in SPEEDS.items() if abs(speed - distance) < 1e-9)
        assert re.search(rf"moving ?(?:{ADVERB[adverb]}) {claim.value}$", part)


@given(seed=seeds, index=indices, kind=kinds)
@settings(deadline=None)
def test_captions_use_known_words_alone(seed: int, index: int, kind: Kind) -> None:
    words = draw_scene(seed, index, kind).caption.replace(",", " ,").split(" ")
    assert set(words) <= set(vocabulary())


def test_every_word_of_the_vocabulary_is_used() -> None:
    captions = [draw_scene(0, i, kind).caption for i in range(2000) for kind in ("picture", "clip")]
    used = {word for caption in captions for word in caption.replace(",", " ,").split()}
    assert set(vocabulary()) == used
    assert list(vocabulary()) == sorted(used)


@given(seed=seeds, index=indices, kind=kinds)
@settings(deadline=None)
def test_captions_are_english(seed: int, index: int, kind: Kind) -> None:
    caption = draw_scene(seed, index, kind).caption
    assert caption == caption.strip()
    assert "  " not in caption
    assert re.findall(r"\ba [aeiou]\w+", caption) == []
    assert set(re.findall(r"\ban (\w)", caption)) <= set("aeiou")
    assert len(re.findall(r"\ban? (?!picture)", caption)) == len(LOOK.findall(caption))


def test_two_and_three_things_are_listed() -> None:
    things = [Thing(shape, "blue", "medium", 0.5, 0.5, 0.14) for shape in ("circle", "star", "ring")]
    texts = {describe(things[:n], random.Random(0))[0].removeprefix("a picture of ") for n in (1, 2, 3)}
    texts = {text.removeprefix("there is ") for text in texts}
    assert texts == {
        "a blue circle",
        "a blue circle and a blue star",
        "a blue circle, a blue star and a blue ring",
    }


@pytest.mark.parametrize(("place", "relation"), [("left", ""), ("", "above")])
def test_what_is_asked_for_is_said_and_claimed(place: str, relation: str) -> None:
    one = Thing("circle", "red", "medium", 0.2, 0.2, 0.14)
    other = Thing("star", "blue", "medium", 0.2, 0.8, 0.14)
    text, claims = describe((one, other)[: 2 if relation else 1], random.Random(1), place, relation)
    wanted = Claim("relation", "above", 0, 1) if relation else Claim("place", "left")
    assert claims[-1] == wanted
    assert re.search(SAID[place or relation], text)


def test_a_medium_size_is_never_named() -> None:
    things = [Thing("circle", "red", "medium", 0.5, 0.5, 0.14)]
    claims = [describe(things, random.Random(i))[1] for i in range(50)]
    assert not any(claim.kind == "size" for found in claims for claim in found)
