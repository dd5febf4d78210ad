"""What the tasks share that learn from latents of the world: `demo:text`, `demo:class` and `demo:video`."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from tocache.demo.train.latents import cached_latents

_LAYOUT = 0.1  # weight of the layout loss
_TURNS = 4  # one step in so many is at the whole side, where there are halves


class Latents(NamedTuple):
    """Of pictures or clips: `latents` (count, channels, …) in float16 and `labels` (count, …)."""

    side: int
    latents: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Size:
    """Of the transformer."""

    width: int = 128
    depth: int = 12
    heads: int = 4


def flow_loss(velocity: Tensor, target: Tensor, layout: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Squared error of a velocity, and the layout loss of the stack's middle; with both as figures.

    `velocity` and `target` are alike; `layout` (B, tokens, contents) are logits, `labels` (B, tokens) integers.
    """
    flow = F.mse_loss(velocity.float(), target)
    contents = F.cross_entropy(layout.float().flatten(0, 1), labels.to(layout.device).long().flatten())
    return flow + _LAYOUT * contents, {"flow": float(flow.detach()), "layout": float(contents.detach())}


def towards_noise(shares: Tensor, by: float) -> Tensor:
    """`shares` of noise, from 0 to 1, with `by` times their odds (SD3, arXiv 2403.03206, equation 23); 0 and 1 stay."""
    return by * shares / (1 + (by - 1) * shares)


class LatentTask(ABC):
    """A model, the autoencoder in whose latents it works, and those latents with what is known of each.

    Args:
        vae: folder of the autoencoder.
        cache: folder of the latents, which are made where they are not there.
        pictures: how many different pictures, or clips, there are to learn from.
        side: of the pictures in pixels; half of it gives a quarter of the tokens and is four times as fast.
        start: folder of a pipeline to begin with, such as the export of a run of another `side`.
        words: folder with a text encoder that has learned to read and is left as it is; without, one is trained along.
        halves: how many pictures there are at half the side. With any, three of four steps learn from twice as many of
            them at once, for less than the fourth step costs: what goes where is the same at both sizes.
        shift: learn at times with this many times the odds of noise that the sampler's have: where things stand, and
            where they move to, is decided while almost all is noise.
    """

    name: str
    """Of the files of latents, with the seed and the side after it."""
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    """Stacks of the transformer that are compiled block by block."""

    transformer: Any

    def __init__(
        self,
        seed: int,
        batch: int,
        device: torch.device,
        *,
        vae: Path,
        cache: Path,
        pictures: int,
        side: int,
        size: Size,
        start: Path | None = None,
        words: Path | None = None,
        halves: int = 0,
        shift: float = 1.0,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.batch, self.device, self.side, self.cache, self.shift = seed, batch, device, side, cache, shift
        self.model: nn.Module = self.new_model(size, start, words).to(device)
        self.vae = self.load_vae(vae)
        self.whole = self.load_latents(pictures, side)
        self.half = self.load_latents(halves, side // 2) if halves else None

    def seen(self, steps: int) -> int:
        whole = steps // _TURNS if self.half is not None else steps
        return self.batch * (whole + 2 * (steps - whole))

    @abstractmethod
    def new_model(self, size: Size, start: Path | None, words: Path | None) -> nn.Module:
        """What is trained, on the CPU, with `transformer` in it or equal to it; weights from torch's generator."""

    @abstractmethod
    def pictures(self, side: int, first: int, number: int) -> tuple[Tensor, Tensor]:
        """What `encode` takes, from picture number `first` on, and an integer tensor of labels, (number, …) both."""

    @abstractmethod
    def pipeline(self) -> Any:
        """The pipeline around the model as it is."""

    def load_vae(self, folder: Path) -> Any:
        """The autoencoder, frozen by being no part of `model`."""
        return AutoencoderKL.from_pretrained(folder).to(self.device, memory_format=torch.channels_last).eval()

    def load_latents(self, count: int, side: int) -> Latents:
        """Of `count` pictures of one side."""
        name = f"{self.name}-{self.seed}-{side}"
        made = cached_latents(self.cache, name, count, functools.partial(self.pictures, side), self.encode)
        return Latents(side, *made)

    def batch_of(self, step: int, generator: torch.Generator) -> tuple[Latents, Tensor]:
        """The pictures that a step learns from, and which of them."""
        small = self.half is not None and step % _TURNS != _TURNS - 1
        source = self.half if self.half is not None and small else self.whole
        return source, torch.randint(0, len(source.latents), (self.batch * (2 if small else 1),), generator=generator)

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, side, side) in [-1, 1] to latents, as the pipeline's denoiser sees them."""
        mean = self.vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        latents: Tensor = mean.float() * self.vae.config.scaling_factor
        return latents

    def compile(self) -> None:
        for stack in self.blocks:
            for block in getattr(self.transformer, stack):
                block.compile()

    def export(self, folder: Path) -> None:
        self.pipeline().save_pretrained(folder)
