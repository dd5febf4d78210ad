"""What the miniatures of pictures share."""

from __future__ import annotations

from typing import Any

import diffusers

from tocache.demo.autoencoder import picture_autoencoder

LATENTS = 4


def picture_vae(levels: int = 4, **options: Any) -> Any:
    """An autoencoder that halves the sides `levels` − 1 times, with diffusers' own initial weights."""
    settings = picture_autoencoder((4,) * levels, norm_num_groups=2, latent_channels=LATENTS, sample_size=128)
    return diffusers.AutoencoderKL(**settings | options).eval()
