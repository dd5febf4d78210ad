"""Training of the judge on exact truth: every picture is rendered from a scene that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tocache.demo.judge import CELLS, SIDE, Judge, Seen, look, read_digits, split_answers
from tocache.demo.world.digits import draw_digit, render_digits
from tocache.demo.world.render import render
from tocache.demo.world.scene import COLOURS, SHAPES, Scene, draw_scene

HELD_OUT = 2**40
"""Index from which scenes are kept from all training."""
_DIGITS = 2  # one digit for so many scenes


class JudgeTask:
    """Cross-entropies of presence, shape and colour and a distance of place and radius, on rendered scenes.

    The pictures are disturbed as a generator's may be: blurred, noisy, of other contrast.
    """

    def __init__(self, seed: int, batch: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.seed, self.batch, self.device = seed, batch, device
        self.judge = Judge().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model: nn.Module = self.judge

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        scenes = [draw_scene(self.seed, step * self.batch + i) for i in range(self.batch)]
        x = disturbed(render(scenes, SIDE, device=self.device), generator)
        answers = self.judge(x.contiguous(memory_format=torch.channels_last)).float()
        presence, shape, colour, place = split_answers(answers)
        target, weight, where, truth = targets(scenes, self.device)
        there = F.binary_cross_entropy_with_logits(presence.squeeze(1), target, weight, reduction="sum") / len(where)
        b, row, column = where.T
        shapes = F.cross_entropy(shape[b, :, row, column], truth[:, 0].long())
        colours = F.cross_entropy(colour[b, :, row, column], truth[:, 1].long())
        places = F.smooth_l1_loss(place[b, :, row, column], truth[:, 2:], beta=0.1)
        digit = self._digits(step, generator)
        figures = {"there": there, "shape": shapes, "colour": colours, "place": places, "digit": digit}
        total = there + shapes + colours + places + digit
        return total, {name: float(value.detach()) for name, value in figures.items()}

    def _digits(self, step: int, generator: torch.Generator) -> Tensor:
        number = self.batch // _DIGITS
        digits = [draw_digit(self.seed, step * number + i) for i in range(number)]
        x = disturbed(render_digits(digits, SIDE, device=self.device), generator)
        labels = torch.tensor([digit.label for digit in digits], device=self.device)
        return F.cross_entropy(self.judge.digits(x.contiguous(memory_format=torch.channels_last)).float(), labels)

    def compile(self) -> None:
        self.judge.compile()

    def sample(self, folder: Path) -> str:
        scenes = accuracy(self.judge, self.seed, 512, self.device)
        digits = digit_accuracy(self.judge, self.seed, 512, self.device)
        return f"of held-out pictures, {100 * scenes:.1f}% scenes and {100 * digits:.1f}% digits read without a mistake"

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        save_file({k: v.half().contiguous() for k, v in self.judge.state_dict().items()}, folder / "judge.safetensors")


def disturbed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with a random blur, contrast, brightness and noise each."""
    numbers = torch.rand(4, len(x), 1, 1, 1, generator=generator).to(x.device)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, soft, numbers[0])
    x = (x - 0.5) * (0.85 + 0.4 * numbers[1]) + 0.5 + 0.1 * (numbers[2] - 0.5)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return (x + 0.06 * numbers[3] ** 2 * noise).clamp(0, 1)


def targets(scenes: Sequence[Scene], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the judge is to say.

    Returns presence (B, 16, 16); its weight (B, 16, 16), 0 beside a cell with a thing's middle; the cells of all things
    (things, 3) as picture, row, column; and of each thing (things, 5) shape, colour, offset x, y and radius in cells.
    """
    target = torch.zeros(len(scenes), CELLS, CELLS)
    weight = torch.ones(len(scenes), CELLS, CELLS)
    where, truth = [], []
    for b, scene in enumerate(scenes):
        for thing in scene.things:
            column, row = int(thing.x * CELLS), int(thing.y * CELLS)
            weight[b, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 0
            target[b, row, column] = 1
            where.append([b, row, column])
            offset = (thing.x * CELLS - column - 0.5, thing.y * CELLS - row - 0.5)
            truth.append([SHAPES.index(thing.shape), COLOURS.index(thing.colour), *offset, thing.radius * CELLS])
    weight[target == 1] = 1
    return target.to(device), weight.to(device), torch.tensor(where, device=device), torch.tensor(truth, device=device)


def accuracy(judge: Judge, seed: int, count: int, device: torch.device, batch: int = 64) -> float:
    """Share of held-out scenes in which all things, and no others, are found with the right shape, colour and place."""
    right = 0
    for first in range(0, count, batch):
        scenes = [draw_scene(seed, HELD_OUT + i) for i in range(first, min(first + batch, count))]
        found = look(render(scenes, 2 * SIDE, device=device), judge)
        right += sum(reads_right(scene, seen) for scene, seen in zip(scenes, found, strict=True))
    return right / count


def digit_accuracy(judge: Judge, seed: int, count: int, device: torch.device, batch: int = 64) -> float:
    """Share of pictures of held-out digits that are read right."""
    right = 0
    for first in range(0, count, batch):
        digits = [draw_digit(seed, i, held_out=True) for i in range(first, min(first + batch, count))]
        read = read_digits(render_digits(digits, 2 * SIDE, device=device), judge)
        right += sum(digit.label == found for digit, found in zip(digits, read, strict=True))
    return right / count


def reads_right(scene: Scene, seen: Sequence[Seen], near: float = 0.04) -> bool:
    """Whether `seen` is what the scene holds, with every middle and radius within `near` widths of the picture."""
    if len(seen) != len(scene.things):
        return False
    by_look = {(thing.shape, thing.colour): thing for thing in seen}
    for thing in scene.things:
        found = by_look.get((thing.shape, thing.colour))
        if found is None:
            return False
        if max(abs(found.x - thing.x), abs(found.y - thing.y), abs(found.radius - thing.radius)) > near:
            return False
    return True
