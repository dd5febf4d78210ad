"""What STDiT3 makes of its inputs before the first block: patches, positions, times, captions.

Tables of angles are rounded to the dtype of the weights, as the original's are when its model is cast; in bf16 that
is what the published weights were trained with, and it makes no difference in float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WAVELENGTHS = 10_000.0  # the longest wavelength of every sine table here, in units of 2π


class PatchEmbed3D(nn.Module):
    """(B, C, T, H, W) → (B, T', H', W', width), one token per patch; what does not fill a patch is padded with 0."""

    def __init__(self, patch_size: tuple[int, int, int], channels: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        short = [-size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)]
        if any(short):
            x = F.pad(x, (0, short[2], 0, short[1], 0, short[0]))
        tokens: Tensor = self.proj(x)  # -> (B, width, T', H', W')
        return tokens.permute(0, 2, 3, 4, 1)


class ScalarEmbedder(nn.Module):
    """(B,) numbers, of any size and with fractions → (B, width): sines and cosines, then an MLP."""

    def __init__(self, width: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        half = self.frequencies // 2
        exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
        angles = values.float()[:, None] * torch.exp(-math.log(_WAVELENGTHS) * exponents)  # (B, half)
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        embedded: Tensor = self.mlp(waves.to(first.weight.dtype))
        return embedded


class CaptionProjection(nn.Module):
    """(…, caption channels) → (…, width)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, captions: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.gelu(self.fc1(captions), approximate="tanh"))
        return projected


class CaptionEmbedder(nn.Module):
    """Projects captions, and keeps the trained embedding of no caption for classifier-free guidance."""

    y_embedding: Tensor

    def __init__(self, channels: int, width: int, tokens: int) -> None:
        super().__init__()
        self.y_proj = CaptionProjection(channels, width)
        self.register_buffer("y_embedding", torch.randn(tokens, channels) / channels**0.5)

    def forward(self, captions: Tensor) -> Tensor:
        projected: Tensor = self.y_proj(captions)
        return projected


class RotaryFrequencies(nn.Module):
    """The rotation of query and key channel pairs by the frame's number (Su et al. 2021, arXiv 2104.09864).

    Its frequencies are part of the original's state dict (there a parameter that is not trained).
    """

    freqs: Tensor

    def __init__(self, head: int) -> None:
        super().__init__()
        self.register_buffer("freqs", rotary_frequencies(head))

    def forward(self, x: Tensor) -> Tensor:
        """Rotate `x` (…, positions, channels), channels 2i and 2i + 1 together by position · freqs[i]."""
        positions = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
        angles = positions.to(self.freqs.dtype)[:, None] * self.freqs  # (positions, channels / 2)
        cos, sin = angles.cos(), angles.sin()
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
        return turned.flatten(-2).to(x.dtype)


def rotary_frequencies(head: int) -> Tensor:
    """(head / 2,) angles per frame of a head `head` wide."""
    return 1.0 / _WAVELENGTHS ** (torch.arange(0, head, 2)[: head // 2].float() / head)


def position_table(
    rows: int, columns: int, width: int, *, scale: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(rows · columns, width) sine-cosine positions of the tokens of a frame, row by row.

    The first half of the channels tells the column, the second the row. Both run from 0 up to round(√(rows · columns))
    / `scale`, so a frame of another shape covers the same range; `scale` is √(pixels) over the side of the square that
    the model calls its size.
    """
    side = round((rows * columns) ** 0.5)
    half = width // 2
    frequencies = 1.0 / _WAVELENGTHS ** (torch.arange(0, half, 2, device=device).float() / half)
    frequencies = frequencies.to(dtype).float()
    of_row, of_column = (
        torch.arange(count, device=device) / scale * (side / count) for count in (rows, columns)
    )  # float32
    across = _waves(of_column, frequencies).expand(rows, columns, half)
    down = _waves(of_row, frequencies)[:, None].expand(rows, columns, half)
    return torch.cat([across, down], dim=-1).reshape(rows * columns, width).to(dtype)


def _waves(positions: Tensor, frequencies: Tensor) -> Tensor:
    angles = positions[:, None] * frequencies  # (positions, channels / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
