"""Clips of the world, frame by frame in the latents of the picture autoencoder, and what is where in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tocache.demo.train.latents import cached_latents
from tocache.demo.world.render import label_map, render_clip
from tocache.demo.world.scene import Scene, draw_scene
from tocache.opensora import AutoencoderKLOpenSora

FRAMES = 9
"""Of a clip. The autoencoder folds them into 3: the first alone, then 4 and 4."""

_GROUPS = ((0, 0), (1, 4), (5, 8))  # first and last frame of each latent frame


def clips(seed: int, first: int, number: int) -> list[Scene]:
    """The scenes of the clips of world `seed`, from number `first` on."""
    return [draw_scene(seed, first + i, "clip") for i in range(number)]


def clip_latents(
    folder: Path, seed: int, side: int, count: int, vae: AutoencoderKLOpenSora, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Latents of the frames (count, C, FRAMES, side / 8, side / 8) in float16, from `folder` or made now, and labels.

    The temporal half of `vae` has no part in them, so that it can be trained on them. Labels are `contents`.
    """

    def rendered(first: int, number: int) -> tuple[Tensor, Tensor]:
        scenes = clips(seed, first, number)
        return as_video(scenes, side, device), contents(scenes, side, device)

    def encode(video: Tensor) -> Tensor:
        return vae.spatial_vae.encode(video, None, False)

    return cached_latents(folder, f"frames-{seed}-{side}", count, rendered, encode)


def as_video(scenes: Sequence[Scene], side: int, device: torch.device) -> Tensor:
    """(scenes, 3, FRAMES, side, side) in [-1, 1], as Open-Sora's autoencoder takes videos."""
    return 2 * render_clip(scenes, side, FRAMES, device=device).transpose(1, 2) - 1


def contents(scenes: Sequence[Scene], side: int, device: torch.device) -> Tensor:
    """What fills each token of 16 × 16 pixels and one latent frame, in the tokens' order: (scenes, tokens) of uint8.

    Numbers are those of `label_map`, at the middle of the latent frame's time.
    """
    times = [(first + last) / 2 / (FRAMES - 1) for first, last in _GROUPS]
    maps = [label_map(scenes, side // 16, time=time, device=device) for time in times]
    return torch.stack(maps, dim=1).flatten(1).to(torch.uint8)


def load_video_vae(folder: Path, device: torch.device) -> AutoencoderKLOpenSora:
    """A trained autoencoder for videos, frozen and set up for many small frames."""
    vae: AutoencoderKLOpenSora = AutoencoderKLOpenSora.from_pretrained(folder).to(device).eval().requires_grad_(False)
    vae.spatial_vae.module.to(memory_format=torch.channels_last)
    vae.frames_at_once = 32
    return vae
