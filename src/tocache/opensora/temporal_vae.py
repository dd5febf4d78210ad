"""The temporal half of Open-Sora 1.2's autoencoder: causal 3-D convolutions that fold 4 frames into one.

After MAGVIT-v2's tokenizer (Yu et al. 2023, arXiv 2310.05737), without its quantisation. It works on the latents of
the spatial half and leaves their height and width as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Module):
    """A convolution whose output at a frame sees that frame and earlier ones; before the first there are zeros."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, time_stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride=(time_stride, 1, 1), bias=bias)
        side = kernel // 2
        # a stride takes its share off the padding: of 2 frames the second, not the first, is the last one seen
        self.padding = (side, side, side, side, kernel - time_stride if kernel > 1 else 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, self.padding))
        return y


class ResidualBlock(nn.Module):
    """Two normalised convolutions around a shortcut, which is a convolution where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = CausalConv3d(inputs, outputs, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = CausalConv3d(outputs, outputs, bias=False)
        self.conv3 = CausalConv3d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        shortcut: Tensor = x if self.conv3 is None else self.conv3(x)
        return shortcut + y


class Level(nn.ModuleList):
    """Residual blocks one after the other; the first may change the number of channels."""

    def __init__(self, inputs: int, outputs: int, count: int, groups: int) -> None:
        super().__init__(ResidualBlock(inputs if i == 0 else outputs, outputs, groups) for i in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = block(x)
        return x


class Encoder(nn.Module):
    """(B, channels, T, H, W) → (B, outputs, T / 2^halvings, H, W)."""

    def __init__(
        self, channels: int, outputs: int, widths: Sequence[int], halved: Sequence[bool], blocks: int, groups: int
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels, widths[0], bias=False)
        self.block_res_blocks = nn.ModuleList(
            Level(before, width, blocks, groups) for before, width in pairwise([widths[0], *widths])
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, time_stride=2) if halve else nn.Identity()
            for width, halve in zip(widths, halved, strict=False)
        )
        self.res_blocks = Level(widths[-1], widths[-1], blocks, groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for i, level in enumerate(self.block_res_blocks):
            x = level(x)
            if i < len(self.conv_blocks):
                x = self.conv_blocks[i](x)
        y: Tensor = self.conv2(F.silu(self.norm1(self.res_blocks(x))))
        return y


class Decoder(nn.Module):
    """(B, inputs, T, H, W) → (B, channels, T · 2^halvings, H, W); lists are in the order of the encoder's."""

    def __init__(
        self, channels: int, inputs: int, widths: Sequence[int], halved: Sequence[bool], blocks: int, groups: int
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(inputs, widths[-1])
        self.res_blocks = Level(widths[-1], widths[-1], blocks, groups)
        self.block_res_blocks = nn.ModuleList(
            Level(above, width, blocks, groups) for width, above in pairwise([*widths, widths[-1]])
        )
        # twice the channels, which become two frames
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width) if halve else nn.Identity()
            for width, halve in zip(widths[1:], halved, strict=True)
        )
        self.halved = tuple(halved)
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for i in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[i](x)
            if i > 0 and self.halved[i - 1]:
                x = self.conv_blocks[i - 1](x)
                x = (
                    torch.unflatten(x, 1, (-1, 2)).permute(0, 1, 3, 2, 4, 5).flatten(2, 3)
                )  # (B, 2C, T, …) -> (B, C, 2T, …)
        y: Tensor = self.conv_out(F.silu(self.norm1(x)))
        return y


class TemporalAutoencoder(nn.Module):
    """One chunk at a time; frames that do not fill the last group of 4 are preceded by zeros."""

    def __init__(
        self, channels: int, latents: int, widths: Sequence[int], halved: Sequence[bool], blocks: int, groups: int
    ) -> None:
        super().__init__()
        self.factor: int = 2 ** sum(halved)
        self.encoder = Encoder(channels, 2 * latents, widths, halved, blocks, groups)
        self.quant_conv = CausalConv3d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = CausalConv3d(latents, latents, 1)
        self.decoder = Decoder(channels, latents, widths, halved, blocks, groups)

    def encode(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) → (B, 2 · latents, ⌈T / factor⌉, H, W): means, then log-variances."""
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.factor, 0))
        moments: Tensor = self.quant_conv(self.encoder(x))
        return moments

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """(B, latents, ⌈frames / factor⌉, H, W) → (B, channels, frames, H, W)."""
        x: Tensor = self.decoder(self.post_quant_conv(z))
        return x[:, :, -frames % self.factor :]


def drawn(moments: Tensor, noise: Tensor | None) -> Tensor:
    """A sample of the normal distribution with these means and log-variances, or its mean without `noise`."""
    mean, log_variance = moments.chunk(2, dim=1)
    if noise is None:
        return mean
    return mean + torch.exp(0.5 * log_variance.clamp(-30.0, 20.0)) * noise
