"""Handwritten digits: the right ink of the data set, where and how the digit says, and held-out ones kept apart."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tocache.demo.world import digits as world
from tocache.demo.world.digits import CLASSES, HELD_OUT, Digit, draw_digit, render_digits
from tocache.demo.world.render import RGB, background_picture
from tocache.demo.world.scene import Background
from tocache.errors import OptionError

indices = st.integers(0, 2**41)
DATA = load_digits()
GREY = Background("gradient", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), (0.0,) * 8)


def plain(number: int, **changes: float) -> Digit:
    """The digit as large as the picture, upright, white on grey."""
    label = int(DATA.target[number])
    return replace(Digit(number, label, "white", 0.5, 0.5, 1.0, 0.0, GREY), **changes)


def ink_of(*digits: Digit, side: int = 128) -> torch.Tensor:
    """How much of each pixel is ink, (digits, side, side), of white digits on grey."""
    return (render_digits(digits, side).mean(dim=1) - 0.5) / (RGB["white"][0] - 0.5)


@given(seed=st.integers(0, 2**32), index=indices, held_out=st.booleans())
@settings(deadline=None)
def test_digits_depend_on_seed_and_index_alone(seed: int, index: int, held_out: bool) -> None:
    digit = draw_digit(seed, index, held_out=held_out)
    assert digit == draw_digit(seed, index, held_out=held_out)
    assert digit.label == DATA.target[digit.number]
    assert (digit.number % HELD_OUT == 0) == held_out
    assert digit.colour in RGB


def test_digits_differ_and_come_from_all_classes() -> None:
    drawn = [draw_digit(seed, i) for seed in range(2) for i in range(300)]
    assert len(set(drawn)) == len(drawn)
    assert {str(digit.label) for digit in drawn} == set(CLASSES)


@pytest.mark.parametrize("first", [0, 900])
def test_a_plain_digit_is_the_ink_of_the_data_set(first: int) -> None:
    """Shrunk to eight pixels, it is its original rather than any other of a hundred."""
    numbers = range(first, first + 100)
    shrunk = F.adaptive_avg_pool2d(ink_of(*(plain(n) for n in numbers)), 8).flatten(1).numpy()
    originals = DATA.images[first : first + 100].reshape(100, 64)
    likeness = np.corrcoef(shrunk, originals)[:100, 100:]
    assert (likeness.argmax(axis=1) == np.arange(100)).all()
    assert likeness.diagonal().min() > 0.85


def test_place_size_and_angle_are_followed() -> None:
    def place(digit: Digit) -> tuple[float, float, float]:
        ink = ink_of(digit)[0].double()
        line = (torch.arange(128) + 0.5) / 128
        x, y = (ink.sum(0) @ line.double()) / ink.sum(), (ink.sum(1) @ line.double()) / ink.sum()
        return float(x), float(y), float(ink.sum())

    x, y, area = place(plain(7, size=0.6))
    moved = place(plain(7, size=0.6, x=0.58, y=0.44))
    assert moved[0] - x == pytest.approx(0.08, abs=0.002)
    assert moved[1] - y == pytest.approx(-0.06, abs=0.002)
    assert place(plain(7, size=0.8))[2] / area == pytest.approx((0.8 / 0.6) ** 2, rel=0.02)
    # A quarter turn clockwise, y downwards: what was at (x, y) from the middle comes to (−y, x).
    turned = ink_of(plain(7, angle=np.pi / 2))[0]
    torch.testing.assert_close(turned, ink_of(plain(7))[0].rot90(-1), atol=2e-3, rtol=0)


@given(index=indices)
@settings(deadline=None, max_examples=30)
def test_colours_are_the_inks_and_the_papers(index: int) -> None:
    digit = draw_digit(0, index)
    picture = render_digits([digit], 64)[0]
    ink = ink_of(replace(digit, colour="white", background=GREY), side=64)[0]
    paper = background_picture(digit.background, 64)
    colour = torch.tensor(RGB[digit.colour])[:, None, None]
    torch.testing.assert_close(picture, paper + ink * (colour - paper), atol=1e-4, rtol=0)
    assert (ink > 0.9).float().mean() > 0.03
    assert (ink < 0.1).float().mean() > 0.4


def test_digits_do_not_depend_on_their_neighbours() -> None:
    digits = [draw_digit(0, i) for i in range(4)]
    together = render_digits(digits, 64)
    assert together.shape == (4, 3, 64, 64)
    assert together.dtype == torch.float32
    for i, digit in enumerate(digits):
        torch.testing.assert_close(together[i], render_digits([digit], 64)[0], atol=1e-6, rtol=0)


def test_two_resolutions_agree() -> None:
    digits = [draw_digit(3, i) for i in range(8)]
    difference = (render_digits(digits, 64) - F.avg_pool2d(render_digits(digits, 256), 4)).abs()
    assert difference.mean() < 0.01


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    world._data_set.cache_clear()
    with pytest.raises(OptionError, match=r"pip install 'tocache\[train\]'"):
        draw_digit(0, 0)
    monkeypatch.undo()
    assert draw_digit(0, 0).label == NOTED[0]


def test_the_digits_are_those_that_the_models_were_trained_on() -> None:
    assert [draw_digit(0, i).label for i in range(12)] == NOTED


NOTED = [9, 1, 2, 8, 1, 6, 0, 2, 1, 4, 8, 8]
