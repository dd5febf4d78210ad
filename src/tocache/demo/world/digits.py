"""Handwritten digits as pictures of the world: real ink on a procedural background.

The ink is scikit-learn's bundled data set (1,797 digits of 8 × 8 pixels and 17 greys; E. Alpaydin and C. Kaynak, UCI
Optical Recognition of Handwritten Digits, CC BY 4.0). An eight-pixel digit is blown up smoothly and its edge sharpened
again, so that it can be drawn at any size, moved, turned and coloured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tocache.demo.world.render import RGB, background_picture
from tocache.demo.world.scene import COLOURS, Background, draw_background
from tocache.errors import OptionError

CLASSES = tuple("0123456789")
HELD_OUT = 5
"""Every fifth digit is kept from all training."""

_EDGE = (0.40, 0.80)  # greys between which the blown-up ink turns from paper to ink


@dataclass(frozen=True)
class Digit:
    """One digit of the data set as it is to be drawn; places are in widths of the picture, `angle` in radians."""

    number: int
    label: int
    colour: str
    x: float
    y: float
    size: float
    angle: float
    background: Background


def draw_digit(seed: int, index: int, *, held_out: bool = False) -> Digit:
    """The picture number `index` of the world `seed`, from the digits that are (not) held out of training."""
    dice = random.Random(f"{seed}/digit/{index}")
    labels = _data_set()[1]
    numbers = [n for n in range(len(labels)) if (n % HELD_OUT == 0) == held_out]
    number = dice.choice(numbers)
    return Digit(
        number=number,
        label=labels[number],
        colour=dice.choice(COLOURS),
        x=dice.uniform(0.42, 0.58),
        y=dice.uniform(0.44, 0.56),
        size=dice.uniform(0.62, 0.85),
        angle=dice.uniform(-1, 1) * math.radians(8),
        background=draw_background(dice),
    )


def render_digits(digits: Sequence[Digit], side: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Pictures (digits, 3, side, side), float32, R, G, B in [0, 1]."""
    greys = _data_set()[0][[digit.number for digit in digits]].to(device)  # (digits, 8, 8)
    places = []
    for digit in digits:
        # from places in the picture, −1 to 1, to places in the data set's square, which is `size` wide
        cos, sin = math.cos(digit.angle) / digit.size, math.sin(digit.angle) / digit.size
        x, y = 2 * digit.x - 1, 2 * digit.y - 1
        places.append([[cos, sin, -cos * x - sin * y], [-sin, cos, sin * x - cos * y]])
    grid = F.affine_grid(torch.tensor(places, device=device), [len(digits), 1, side, side], align_corners=False)
    ink = F.grid_sample(greys.unsqueeze(1), grid, mode="bicubic", align_corners=False)  # (digits, 1, side, side)
    low, high = _EDGE
    ink = ((ink - low) / (high - low)).clamp(0, 1)
    ink = ink * ink * (3 - 2 * ink)
    paper = torch.stack([background_picture(digit.background, side, device=device) for digit in digits])
    colour = torch.tensor([RGB[digit.colour] for digit in digits], device=device)[:, :, None, None]
    return paper + ink * (colour - paper)


@cache
def _data_set() -> tuple[Tensor, list[int]]:
    """Greys (1797, 8, 8) in [0, 1], and labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise OptionError("the handwritten digits need scikit-learn: pip install 'tocache[train]'") from error
    data = load_digits()
    return torch.tensor(data.images / 16.0, dtype=torch.float32), [int(label) for label in data.target]
