"""Open-Sora 1.2's autoencoder: a picture autoencoder for every frame, and a temporal one on its latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from tocache.checkpoints.pretrained import LoadedWhole
from tocache.errors import OptionError
from tocache.opensora.sizes import CHUNK_FRAMES
from tocache.opensora.temporal_vae import TemporalAutoencoder, drawn

# PixArt-Σ's picture autoencoder (that of SDXL), in whose latents the temporal half was trained
PICTURES: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}

Generator = torch.Generator | Sequence[torch.Generator] | None


class SpatialAutoencoder(nn.Module):
    """(B, C, T, H, W) videos through a picture autoencoder, a few frames at a time; latents are scaled."""

    def __init__(self, settings: Mapping[str, Any], scaling: float) -> None:
        super().__init__()
        self.module: Any = AutoencoderKL(**settings)
        self.scaling = scaling
        self.pixels: int = 2 ** (len(settings["block_out_channels"]) - 1)  # of a side that become one
        self.frames_at_once: int | None = 4

    def encode(self, video: Tensor, generator: Generator, sample: bool) -> Tensor:
        """(B, 3, T, H, W) in −1 … 1 → (B, latent channels, T, H / 8, W / 8)."""
        if self.module.use_tiling:  # a last tile of nothing but pixels that are left over would be too small
            height, width = (side // self.pixels * self.pixels for side in video.shape[-2:])
            video = video[..., :height, :width]
        moments = self._by_frame(video, lambda frames: self.module.encode(frames).latent_dist.parameters)
        mean = moments[:, : moments.shape[1] // 2]
        noise = randn_tensor(mean.shape, generator, video.device, mean.dtype) if sample else None
        return drawn(moments, noise) * self.scaling

    def decode(self, latents: Tensor) -> Tensor:
        """(B, latent channels, T, H, W) → (B, 3, T, 8H, 8W)."""
        return self._by_frame(latents / self.scaling, lambda frames: self.module.decode(frames, return_dict=False)[0])

    def _by_frame(self, video: Tensor, run: Any) -> Tensor:
        frames = video.transpose(1, 2).flatten(0, 1)  # (B, C, T, …) -> (B·T, C, …)
        done = torch.cat([run(part) for part in torch.split(frames, self.frames_at_once or len(frames))])
        return torch.unflatten(done, 0, (len(video), -1)).transpose(1, 2)


class AutoencoderKLOpenSora(LoadedWhole, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Videos to latents, 8 × 8 pixels and 17 frames to 5 latent frames, and back. State-dict keys are the original's.

    Chunks of 17 frames know nothing of each other, in either direction, so memory does not grow with the length of a
    video; within a chunk, pictures are coded `frames_at_once` at a time.

    spatial             settings of the AutoencoderKL of the frames
    scaling_factor      of its latents
    channel_widths      channels of the temporal half, level by level
    halved              whether the frames are halved after each level but the last
    blocks_per_level    residual blocks
    norm_num_groups     of the temporal half's norms
    chunk_frames        frames coded together
    latent_shift, latent_scale  per channel: latents are (z − shift) / scale
    """

    shift: Tensor
    scale: Tensor

    _supports_gradient_checkpointing = False

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        spatial: Mapping[str, Any] = PICTURES,
        scaling_factor: float = 0.18215,
        channel_widths: Sequence[int] = (128, 256, 256, 512),
        halved: Sequence[bool] = (False, True, True),
        blocks_per_level: int = 4,
        norm_num_groups: int = 32,
        chunk_frames: int = CHUNK_FRAMES,
        latent_shift: Sequence[float] = (-0.10, 0.34, 0.27, 0.98),
        latent_scale: Sequence[float] = (3.85, 2.32, 2.33, 3.06),
    ) -> None:
        super().__init__()
        self.spatial_vae = SpatialAutoencoder(spatial, scaling_factor)
        channels = int(self.spatial_vae.module.config.latent_channels)
        self.temporal_vae = TemporalAutoencoder(
            channels, channels, channel_widths, halved, blocks_per_level, norm_num_groups
        )
        self.register_buffer("shift", torch.tensor(latent_shift).reshape(1, -1, 1, 1, 1))
        self.register_buffer("scale", torch.tensor(latent_scale).reshape(1, -1, 1, 1, 1))

    @property
    def pixels_per_latent(self) -> int:
        """Pixels of a side that become one."""
        return int(self.spatial_vae.pixels)

    @property
    def frames_at_once(self) -> int | None:
        """Pictures coded at a time; None: those of a whole chunk. Fewer take less memory."""
        return self.spatial_vae.frames_at_once

    @frames_at_once.setter
    def frames_at_once(self, frames: int | None) -> None:
        if frames is not None and frames < 1:
            raise OptionError(f"frames_at_once={frames} is not allowed; allowed: None or an integer >= 1")
        self.spatial_vae.frames_at_once = frames

    def enable_tiling(self, side: int = 512) -> None:
        """Code frames larger than `side` pixels in tiles of that side that overlap by a quarter.

        Less memory, and slightly other pixels at the seams. Raises OptionError for a side that is no whole number of
        latent pixels, or fewer than 4 of them.
        """
        if side < 4 * self.pixels_per_latent or side % self.pixels_per_latent:
            raise OptionError(
                f"side={side} is not allowed; allowed: a multiple of {self.pixels_per_latent} from "
                f"{4 * self.pixels_per_latent} on"
            )
        module = self.spatial_vae.module
        # diffusers takes its `sample_size`, which is no part of a checkpoint and by default 32 pixels
        module.tile_sample_min_size, module.tile_latent_min_size = side, side // self.pixels_per_latent
        module.enable_tiling()

    def disable_tiling(self) -> None:
        """Code whole frames again."""
        self.spatial_vae.module.disable_tiling()

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video of `frames` frames."""
        return sum(-(-length // self.temporal_vae.factor) for length in self._chunks(frames))

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def encode(self, video: Tensor, *, generator: Generator = None, sample: bool = True) -> Tensor:
        """Normalised latents (B, C, `latent_frames(T)`, H / 8, W / 8) of a video (B, 3, T, H, W) in −1 … 1.

        Both halves draw from what they predict, as the original does; with `sample` False they give its mean.
        """
        parts = []
        for chunk in torch.split(video, list(self._chunks(video.shape[2])), dim=2):
            pictures = self.spatial_vae.encode(chunk, generator, sample)
            moments = self.temporal_vae.encode(pictures)
            mean = moments[:, : moments.shape[1] // 2]
            noise = randn_tensor(mean.shape, generator, mean.device, mean.dtype) if sample else None
            parts.append(drawn(moments, noise))
        return (torch.cat(parts, dim=2) - self.shift) / self.scale

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """The video (B, 3, num_frames, 8H, 8W), about −1 … 1, of normalised latents (B, C, T, H, W).

        Raises OptionError where T is not `latent_frames(num_frames)`.
        """
        expected = self.latent_frames(num_frames)
        if latents.shape[2] != expected:
            raise OptionError(f"latents of {latents.shape[2]} frames are not {num_frames} frames; expected {expected}")
        z = latents * self.scale.to(latents.dtype) + self.shift.to(latents.dtype)
        parts = []
        for frames in self._chunks(num_frames):
            count = -(-frames // self.temporal_vae.factor)
            part, z = z[:, :, :count], z[:, :, count:]
            parts.append(self.spatial_vae.decode(self.temporal_vae.decode(part, frames)))
        return torch.cat(parts, dim=2)

    def forward(self, video: Tensor, *, generator: Generator = None, sample: bool = False) -> Tensor:
        """The video (B, 3, T, H, W) coded and decoded."""
        latents = self.encode(video, generator=generator, sample=sample)
        decoded: Tensor = self.decode(latents, video.shape[2])
        return decoded

    def _chunks(self, frames: int) -> Iterator[int]:
        """Frames of each chunk: all full but, possibly, the last."""
        for start in range(0, frames, self.config.chunk_frames):
            yield min(self.config.chunk_frames, frames - start)
