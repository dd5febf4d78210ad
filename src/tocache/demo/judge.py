"""Reads pictures of the procedural world: which things are there, where, how large, how they move; or which digit.

A small network looks at a picture in 16 × 16 cells and says for each whether a thing's middle lies in it, and of what
shape, colour and size it is (the form of CenterNet, Zhou et al., arXiv 1904.07850). Motion is read by finding the same
thing in a clip's first and last frame. The features below its answers are a space in which pictures can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tocache.demo.world.scene import COLOURS, SHAPES, Claim, direction_of, is_at, is_beside, size_of
from tocache.errors import OptionError

SIDE = 128
"""Side in pixels at which pictures are looked at."""
CELLS = 16
WIDTH = 96
"""Channels of the features."""

DIGITS = 10

_DIGIT_CELLS = 4  # a side of the grid from which a digit is read
_PRESENT = 0.5  # probability from which a cell holds a thing's middle
_STILL = 0.04  # widths of the picture below which a thing has not moved


@dataclass(frozen=True)
class Seen:
    """A thing that was found; places and radius in widths of the picture."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    certainty: float

    @property
    def size(self) -> str:
        return size_of(self.radius)


class Judge(nn.Module):
    """(B, 3, 128, 128) pictures in [0, 1] → (B, answers, 16, 16); see `split_answers`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _step(3, 24, stride=2),
            _step(24, 48, stride=2),
            _step(48, WIDTH, stride=2),
            _Residual(WIDTH, dilation=1),
            _Residual(WIDTH, dilation=2),
            _Residual(WIDTH, dilation=1),
        )
        self.head = nn.Conv2d(WIDTH, 1 + len(SHAPES) + len(COLOURS) + 3, kernel_size=1)
        self.digit = nn.Linear(WIDTH * _DIGIT_CELLS**2, DIGITS)

    def forward(self, pictures: Tensor) -> Tensor:
        answers: Tensor = self.head(self.features(pictures))
        return answers

    def digits(self, pictures: Tensor) -> Tensor:
        """Logits (B, 10) of the digit that a picture shows."""
        coarse = F.adaptive_avg_pool2d(self.features(pictures), _DIGIT_CELLS)  # (B, 96, 16, 16) -> (B, 96, 4, 4)
        logits: Tensor = self.digit(coarse.flatten(1))
        return logits

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], H = W a multiple of 128 → (B, 96, 16, 16)."""
        features: Tensor = self.body(2 * _shrunk(pictures) - 1)
        return features


def split_answers(answers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The channels (dimension 1) of a judge's answers: presence (1), shape, colour, and offset x, y and radius (3).

    Presence, shape and colour are logits. The offset is from the cell's middle; both are in cells.
    """
    presence, shape, colour, place = torch.split(answers, [1, len(SHAPES), len(COLOURS), 3], dim=1)
    return presence, shape, colour, place


@cache
def load_judge() -> Judge:
    """The judge that ships with the package, on the CPU."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return judge.eval()


WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"


@torch.inference_mode()
def look(pictures: Tensor, judge: Judge | None = None) -> list[list[Seen]]:
    """The things in each of `pictures` (B, 3, H, W) in [0, 1], most certain first.

    Raises OptionError where the sides are not equal and a multiple of 128.
    """
    judge = judge or load_judge()
    presence, shape, colour, place = split_answers(judge(pictures.float()))
    sure = presence.sigmoid()
    # peaks of the logits: neighbouring probabilities may both round to 1
    peak = (presence == F.max_pool2d(presence, 3, stride=1, padding=1)) & (sure > _PRESENT)
    found: list[list[Seen]] = [[] for _ in pictures]
    for b, _, row, column in peak.nonzero().tolist():
        dx, dy, radius = place[b, :, row, column].tolist()
        found[b].append(
            Seen(
                shape=SHAPES[int(shape[b, :, row, column].argmax())],
                colour=COLOURS[int(colour[b, :, row, column].argmax())],
                x=(column + 0.5 + dx) / CELLS,
                y=(row + 0.5 + dy) / CELLS,
                radius=radius / CELLS,
                certainty=float(sure[b, 0, row, column]),
            )
        )
    return [sorted(things, key=lambda seen: -seen.certainty) for things in found]


def check(claims: Sequence[Claim], seen: Sequence[Seen], later: Sequence[Seen] | None = None) -> list[bool]:
    """Whether each claim of a caption holds of what was seen; `later` is what was seen in a clip's last frame.

    A claim about a thing that was not found is false, and so is a claim of motion without `later`.
    """
    looks = {claim.subject: claim.value for claim in claims if claim.kind == "thing"}

    def find(number: int, among: Sequence[Seen]) -> Seen | None:
        return next((thing for thing in among if f"{thing.colour} {thing.shape}" == looks[number]), None)

    def holds(claim: Claim) -> bool:
        if claim.kind == "count":
            return len(seen) == int(claim.value)
        subject = find(claim.subject, seen)
        if subject is None or claim.kind == "thing":
            return subject is not None
        if claim.kind == "size":
            return subject.size == claim.value
        if claim.kind == "place":
            return is_at(claim.value, subject.x, subject.y)
        if claim.kind == "relation":
            other = find(claim.object, seen)
            return other is not None and is_beside(claim.value, (subject.x, subject.y), (other.x, other.y))
        ended = find(claim.subject, later or ())
        if ended is None:
            return False
        dx, dy = ended.x - subject.x, ended.y - subject.y
        return max(abs(dx), abs(dy)) > _STILL and direction_of(dx, dy) == claim.value

    return [holds(claim) for claim in claims]


@torch.inference_mode()
def read_digits(pictures: Tensor, judge: Judge | None = None) -> list[int]:
    """The digit in each of `pictures` (B, 3, H, W) in [0, 1]; a picture without one gets any."""
    return (judge or load_judge()).digits(pictures.float()).argmax(dim=1).tolist()


@torch.inference_mode()
def pooled_features(pictures: Tensor, judge: Judge | None = None) -> Tensor:
    """(B, 3, H, W) in [0, 1] → (B, 192): mean and standard deviation of each feature over the picture.

    The space of Fréchet distances between sets of pictures.
    """
    features = (judge or load_judge()).features(pictures.float())
    return torch.cat([features.mean(dim=(2, 3)), features.std(dim=(2, 3))], dim=1)


@torch.inference_mode()
def perceptual_distance(pictures: Tensor, references: Tensor, judge: Judge | None = None) -> Tensor:
    """How different pairs of pictures look to the judge: (B,), 0 for equal ones.

    Mean over places of the squared distance between features of unit length, as LPIPS (Zhang et al., arXiv 1801.03924,
    equation 1) without learned weights. Both (B, 3, H, W) in [0, 1].
    """
    judge = judge or load_judge()
    one, other = (F.normalize(judge.features(x.float()), dim=1) for x in (pictures, references))
    return (one - other).square().sum(dim=1).mean(dim=(1, 2))


def _shrunk(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[-2:]
    if height != width or height % SIDE:
        raise OptionError(f"pictures of {height} × {width} pixels; allowed: squares whose side is a multiple of {SIDE}")
    return F.avg_pool2d(pictures, height // SIDE)


def _step(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.SiLU()
    )


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.layers(x))
