"""The autoencoder of the demo pipelines: pictures of the world to latents at an eighth of the side, and back."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from tocache.demo.autoencoder import picture_autoencoder
from tocache.demo.train.pictures import save_grid
from tocache.demo.world.digits import draw_digit, render_digits
from tocache.demo.world.render import render
from tocache.demo.world.scene import draw_scene

LATENT_CHANNELS = 4
FACTOR = 8
_CHANNELS = (16, 24, 48, 64)
_CROP, _CROPS = 64, 4  # side, and how many are cut from one picture
_KL = 3e-4
_DIGITS = 4  # one scene in so many is a digit
_SIDES = (256, 128)  # of pictures; at half the side everything in them is half as large


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder; without attention, so that it takes crops and pictures alike."""
    settings = picture_autoencoder(
        _CHANNELS,
        norm_num_groups=1,  # few channels in a group cannot carry the mean colour through a group norm
        latent_channels=LATENT_CHANNELS,
        mid_block_add_attention=False,
        sample_size=256,
    )
    vae = AutoencoderKL(**settings)
    _start_as_copy(vae)
    return vae


@torch.no_grad()
def _start_as_copy(vae: AutoencoderKL, share: float = 0.5) -> None:
    """Let pictures through from the first step: shrunk on the way in, enlarged on the way out, beside the usual noise.

    With the usual weights alone, colours take hundreds of steps to find their way through eight levels. `share` is what
    is kept of the noise on that path.
    """
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.mul_(0.1)
            if module.conv_shortcut is not None:
                _add_identity(module.conv_shortcut, share)
        elif isinstance(module, (Downsample2D, Upsample2D)):
            _add_identity(module.conv, share)
    for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
        _add_identity(conv, share)
    vae.quant_conv.weight[LATENT_CHANNELS:].mul_(0.1)
    vae.quant_conv.bias[LATENT_CHANNELS:].fill_(-3.0)  # log-variance: little noise on the latents at first


def _add_identity(conv: nn.Conv2d, share: float) -> None:
    identity = torch.zeros_like(conv.weight)
    if conv.stride == (2, 2):  # diffusers pads these on the right and below: the mean of two by two
        for i in range(min(conv.weight.shape[:2])):
            identity[i, i, :2, :2] = 0.25
    else:
        nn.init.dirac_(identity)
    conv.weight.mul_(share).add_(identity)
    if conv.bias is not None:
        conv.bias.zero_()


class VaeTask:
    """Errors of pixels and of their differences to the neighbours, and a KL term that keeps latents near N(0, 1)."""

    def __init__(self, seed: int, batch: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.seed, self.batch, self.device = seed, batch, device
        self.model: nn.Module = new_vae().to(device, memory_format=torch.channels_last)
        self.vae = self.model

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = self._crops(step, generator)  # (batch, 3, crop, crop)
        posterior = self.vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
        y = self.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        pixels = (y - x).abs().mean() + (y - x).square().mean()
        edges = (y.diff(dim=2) - x.diff(dim=2)).abs().mean() + (y.diff(dim=3) - x.diff(dim=3)).abs().mean()
        return pixels + edges + _KL * kl, {"pixels": float(pixels.detach()), "kl": float(kl.detach())}

    def compile(self) -> None:
        self.vae.encoder.compile()
        self.vae.decoder.compile()

    def sample(self, folder: Path) -> str:
        x = torch.cat([self._pictures(2**40, 12, 256), self._digits(2**40, 4, 256)])
        y = self.vae.decode(self.vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        save_grid(torch.stack([x, y], dim=1).flatten(0, 1), folder / "sample.png", columns=8)
        error = F.mse_loss(y, x, reduction="none").mean(dim=(1, 2, 3)) / 4  # of pixels in [0, 1]
        return f"PSNR {-10 * error.log10().mean():.1f} dB"

    def export(self, folder: Path) -> None:
        """With latents of mean 0 and variance 1 in every channel, by weights: pipelines know one factor for all."""
        latents = self.vae.encode(self._pictures(2**41, 64, 256)).latent_dist.mean
        vae = deepcopy(self.vae)
        normalise_latents(vae, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
        vae.register_to_config(scaling_factor=1.0)
        vae.to(memory_format=torch.contiguous_format).save_pretrained(folder)

    def _crops(self, step: int, generator: torch.Generator) -> Tensor:
        """Most of them around a thing: much of a picture is background."""
        side = _SIDES[step % 2]
        number = self.batch // _CROPS
        first = step * number
        digits = number // _DIGITS
        x = torch.cat([self._pictures(first, number - digits, side), self._digits(first, digits, side)])
        x = x.repeat_interleave(_CROPS, dim=0)
        span = side - _CROP
        corners = torch.randint(0, span + 1, (len(x), 2), generator=generator)
        for i in range(0, (number - digits) * _CROPS):
            thing = draw_scene(self.seed, first + i // _CROPS).things[0]
            if i % _CROPS < 2:
                centre = torch.tensor([thing.y, thing.x]) * side - _CROP / 2
                wobble = torch.randn(2, generator=generator) * thing.radius * side / 2
                corners[i] = (centre + wobble).round().clamp(0, span)
        cut = [image[:, top : top + _CROP, left : left + _CROP] for image, (top, left) in zip(x, corners, strict=True)]
        return torch.stack(cut).contiguous(memory_format=torch.channels_last)

    def _pictures(self, first: int, number: int, side: int) -> Tensor:
        scenes = [draw_scene(self.seed, first + i) for i in range(number)]
        return 2 * render(scenes, side, device=self.device) - 1

    def _digits(self, first: int, number: int, side: int) -> Tensor:
        digits = [draw_digit(self.seed, first + i) for i in range(number)]
        return 2 * render_digits(digits, side, device=self.device) - 1


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Shift and scale the latents by `mean` and `std` (channels each), and undo it before the decoder."""
    into, out = vae.quant_conv, vae.post_quant_conv  # 1 x 1: latents' means and log-variances; latents
    channels = len(mean)
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.weight[:channels] /= std[:, None, None, None]
    into.bias[channels:] -= 2 * std.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[None, :, None, None]
