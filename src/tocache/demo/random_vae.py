"""A tiny autoencoder whose decoder paints smooth coloured shapes from any latents."""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL
from torch import nn

from tocache.demo.autoencoder import picture_autoencoder

_CHANNELS = (8, 16, 16, 16)  # four levels: a factor of 8 between latents and pixels
_ROUGHNESS = 0.25  # share of unsmoothed noise in a kernel
_BRIGHTNESS, _COLOUR = 0.22, 0.33  # standard deviations of the picture in [-1, 1]: common to R, G, B, and of each alone


def smooth_vae(
    generator: torch.Generator, *, latent_channels: int, scaling_factor: float, shift_factor: float | None = None
) -> AutoencoderKL:
    """`AutoencoderKL` with random weights; eight pixels to a latent, in both directions.

    The encoder keeps diffusers' initialisation, drawn from torch's global generator. A decoder with that
    initialisation paints grey noise on an 8-pixel grid, so its kernels are drawn smooth.

    Args:
        generator: draws the decoder's weights.
        latent_channels, scaling_factor, shift_factor: as in `AutoencoderKL`.
    """
    settings = picture_autoencoder(
        _CHANNELS,
        norm_num_groups=4,
        latent_channels=latent_channels,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        sample_size=256,
        # FLUX's autoencoder, the one with a shift, has neither of these.
        use_quant_conv=shift_factor is None,
        use_post_quant_conv=shift_factor is None,
    )
    vae = AutoencoderKL(**settings)
    for module in vae.decoder.modules():
        if isinstance(module, nn.Conv2d):
            _fill_smooth(module, generator)
    # Blur alone at the entrance: it removes what alternates from latent to latent, the mark of 2 × 2 patches.
    _fill_smooth(vae.decoder.conv_in, generator, roughness=0.0)
    with torch.no_grad():
        # The pipeline divides latents by the scaling factor; the decoder is to see about unit variance again.
        vae.decoder.conv_in.weight.mul_(scaling_factor)
    _fill_palette(vae.decoder.conv_out, generator)
    return vae.eval()


@torch.no_grad()
def _fill_smooth(conv: nn.Conv2d, generator: torch.Generator, roughness: float = _ROUGHNESS) -> None:
    """Draw kernels that mix channels at random and blur in space, so that upsampled blocks melt into each other."""
    size = conv.kernel_size[0]
    line = torch.tensor([math.comb(size - 1, i) for i in range(size)], dtype=torch.float32)
    blur = torch.outer(line, line) / line.sum() ** 2
    mix = torch.empty(conv.out_channels, conv.in_channels, 1, 1).normal_(generator=generator)
    noise = torch.empty_like(conv.weight).normal_(generator=generator) / size
    conv.weight.copy_((mix * blur + roughness * noise) * math.sqrt(2.0 / conv.in_channels))
    if conv.bias is not None:
        conv.bias.normal_(0.0, 0.2, generator=generator)


@torch.no_grad()
def _fill_palette(conv: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw the last layer, features → R, G, B, to fill the range of colours without leaving it often."""
    _fill_smooth(conv, generator)
    mix = conv.weight.sum(dim=(2, 3), keepdim=True)  # (3, channels, 1, 1), what a flat area sees
    common = mix.mean(dim=0, keepdim=True)
    own = mix - common
    target = common / common.norm() * _BRIGHTNESS + own / own.norm(dim=1, keepdim=True) * _COLOUR
    # The features are silu(group norm): mean 0.21, standard deviation 0.56.
    conv.weight.mul_(target / mix / 0.56)
    if conv.bias is not None:
        conv.bias.copy_(-0.21 * conv.weight.sum(dim=(1, 2, 3)))
