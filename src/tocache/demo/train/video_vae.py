"""The autoencoder of `demo:video`: that of pictures for every frame, and a small temporal half, which is trained here.

The temporal half sees nothing but latents of frames. They are made once and kept, so a step costs neither rendering nor
the picture autoencoder, which stays as it is.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from tocache.demo.train.clips import FRAMES, as_video, clip_latents, clips
from tocache.demo.train.pictures import save_grid
from tocache.opensora import AutoencoderKLOpenSora
from tocache.opensora.temporal_vae import CausalConv3d, ResidualBlock, TemporalAutoencoder, drawn

SIDES = (64, 128)
"""Of the clips in pixels; what moves across a picture crosses twice as many latents in the larger one."""

_WIDTHS = (24, 32, 48)  # channels of the temporal half; between two levels the frames are halved
_WINDOW = 8  # side in latents of what is learned from at once: a clip of the smaller side, a quarter of the larger
_AROUND = 0.75  # share of the windows that lie around a thing; most of a clip stands still
_KL = 1e-3
_STATISTICS = 512  # clips from which the latents' mean and variance are taken


def new_video_vae(pictures: AutoencoderKL) -> AutoencoderKLOpenSora:
    """`pictures` for every frame, and an untrained temporal half with weights from torch's generator."""
    spatial = {name: value for name, value in pictures.config.items() if not name.startswith("_")}
    channels = spatial["latent_channels"]
    vae: AutoencoderKLOpenSora = AutoencoderKLOpenSora(
        spatial=spatial,
        scaling_factor=spatial["scaling_factor"],
        channel_widths=_WIDTHS,
        halved=(True,) * (len(_WIDTHS) - 1),
        blocks_per_level=1,
        norm_num_groups=1,  # as in the picture autoencoder, so that a clip's mean colour comes through
        latent_shift=(0.0,) * channels,
        latent_scale=(1.0,) * channels,
    )
    vae.spatial_vae.module.load_state_dict(pictures.state_dict())
    start_as_copy(vae.temporal_vae, channels)
    return vae


@torch.no_grad()
def start_as_copy(vae: TemporalAutoencoder, channels: int, share: float = 0.5) -> None:
    """Let latents through from the first step, beside the usual noise, of which `share` is kept on that path.

    A latent frame begins as the last of its frames, and each of its frames as the latent frame: a clip that stands
    still comes out as it went in, up to its contrast. The SiLU before a last layer needs each number twice, with
    either sign: silu(x) − silu(−x) = x.
    """
    encoder, decoder = vae.encoder, vae.decoder
    same = torch.eye(channels)
    both = torch.cat([same, -same])
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.conv.weight.mul_(0.1)
            if module.conv3 is not None:
                _add(module.conv3, torch.eye(2 * channels), share)
    for block in encoder.conv_blocks:
        if isinstance(block, CausalConv3d):
            _add(block, torch.eye(2 * channels), share)
    for block in decoder.conv_blocks:
        if isinstance(block, CausalConv3d):  # two frames of every channel, side by side
            _add(block, torch.eye(2 * channels).repeat_interleave(2, dim=0), share)
    for conv, path in ((encoder.conv_in, both), (decoder.conv1, both), (decoder.conv_out, both.T)):
        _add(conv, path, share)
    for conv, path in ((encoder.conv2, both.T), (vae.quant_conv, same), (vae.post_quant_conv, same)):
        _add(conv, path, 0.1)
    assert vae.quant_conv.conv.bias is not None
    vae.quant_conv.conv.bias[channels:] = -4.0  # log-variance: little noise on the latents at first


def _add(conv: CausalConv3d, path: Tensor, share: float) -> None:
    """Add `path` (outputs, inputs) to what the convolution makes of the present frame; `share` is kept of the rest."""
    weight = conv.conv.weight
    middle = weight.shape[-1] // 2
    weight.mul_(share)
    weight[: len(path), : path.shape[1], -1, middle, middle] += path.to(weight)
    if conv.conv.bias is not None:
        conv.conv.bias.zero_()


class VideoVaeTask:
    """Errors of latents and of their change from frame to frame, and a KL term that keeps the noise from vanishing.

    Args:
        vae: folder of the picture autoencoder.
        cache: folder of the frames' latents.
        pictures: how many different clips there are to learn from.
    """

    def __init__(self, seed: int, batch: int, device: torch.device, *, vae: Path, cache: Path, pictures: int) -> None:
        torch.manual_seed(seed)
        self.seed, self.batch, self.device = seed, batch, device
        self.vae = new_video_vae(AutoencoderKL.from_pretrained(vae)).to(device)
        self.vae.spatial_vae.requires_grad_(False).eval()
        self.vae.spatial_vae.module.to(memory_format=torch.channels_last)
        self.vae.frames_at_once = 32
        self.temporal = self.vae.temporal_vae
        self.model: nn.Module = self.temporal
        self.scenes = clips(seed, 0, pictures)
        self.frames = [clip_latents(cache, seed, side, pictures, self.vae, device)[0] for side in SIDES]

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = self._windows(step % len(SIDES), generator).to(self.device)  # (batch, C, FRAMES, 8, 8)
        moments = self.temporal.encode(x)
        mean, log_variance = moments.float().chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        y = self.temporal.decode(drawn(moments, noise), FRAMES).float()
        error = F.mse_loss(y, x)
        change = F.mse_loss(y.diff(dim=2), x.diff(dim=2))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        figures = {"error": error, "change": change, "kl": kl}
        total = error + change + _KL * kl
        return total, {name: float(value.detach()) for name, value in figures.items()}

    def compile(self) -> None:
        self.temporal.encoder.compile()
        self.temporal.decoder.compile()

    def sample(self, folder: Path) -> str:
        x = as_video(clips(self.seed, 2**40, 4), SIDES[-1], self.device)
        frames = self.vae.spatial_vae.decode(self.vae.spatial_vae.encode(x, None, False))
        y = self.vae(x)
        shown = torch.stack([x, y], dim=1)[:, :, :, :: FRAMES // 4]  # (4, 2, 3, 5, side, side)
        save_grid(shown.permute(0, 1, 3, 2, 4, 5).flatten(0, 2).clamp(-1, 1), folder / "sample.png", columns=5)
        return f"PSNR {_psnr(y, x):.1f} dB, of the picture autoencoder alone {_psnr(frames, x):.1f} dB"

    def export(self, folder: Path) -> None:
        """With the latents' mean and standard deviation, by which the autoencoder normalises them itself."""
        frames = self.frames[-1][:_STATISTICS].float().to(self.device)
        latents = torch.cat([self.temporal.encode(part).chunk(2, dim=1)[0] for part in torch.split(frames, 32)])
        vae = deepcopy(self.vae)
        mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
        vae.shift.copy_(mean.reshape(vae.shift.shape))
        vae.scale.copy_(std.reshape(vae.scale.shape))
        vae.register_to_config(latent_shift=mean.tolist(), latent_scale=std.tolist())
        vae.to(memory_format=torch.contiguous_format).save_pretrained(folder)

    def _windows(self, which: int, generator: torch.Generator) -> Tensor:
        frames = self.frames[which]
        chosen = torch.randint(0, len(frames), (self.batch,), generator=generator)
        span = frames.shape[-1] - _WINDOW
        corners = torch.randint(0, span + 1, (self.batch, 2), generator=generator)
        around = torch.rand(self.batch, generator=generator) < _AROUND
        wobble = torch.randn(self.batch, 2, generator=generator)
        parts = []
        for row, number in enumerate(chosen.tolist()):
            if around[row]:
                x, y = self.scenes[number].things[0].at(0.5)
                centre = torch.tensor([y, x]) * frames.shape[-1] - _WINDOW / 2
                corners[row] = (centre + wobble[row]).round().clamp(0, span)
            top, left = corners[row].tolist()
            parts.append(frames[number, :, :, top : top + _WINDOW, left : left + _WINDOW])
        return torch.stack(parts).float()


def _psnr(y: Tensor, x: Tensor) -> float:
    error = (y.clamp(-1, 1) - x).square().flatten(1).mean(dim=1) / 4  # of pixels in [0, 1]
    return float(-10 * error.log10().mean())
