"""Frames that are given rather than generated: pictures or clips, put into the latent, and the mask that says where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from tocache.errors import OptionError
from tocache.opensora.sizes import CHUNK_FRAMES, CHUNK_LATENTS


@dataclass(frozen=True)
class FrameCondition:
    """Frames of the video that are given.

    frames  a picture (PIL; array (H, W, 3) of bytes or of 0 … 1; tensor (3, H, W) of 0 … 1) or a sequence of them;
            they are scaled and cropped to fill the video's frame
    at      frame of the video at which they begin. The autoencoder works in chunks, so only the first frame of a chunk
            of 17 can be one; negative numbers count chunks' first frames from the end: −1 is the last chunk
    edit    0 keeps the frames as they are; up to 1, they are changed: noised and generated from time 1000 · edit on
    """

    frames: Any
    at: int = 0
    edit: float = 0.0

    def __post_init__(self) -> None:
        if self.at >= 0 and self.at % CHUNK_FRAMES:
            raise OptionError(f"at={self.at} is not allowed; allowed: a multiple of {CHUNK_FRAMES}, or a negative one")
        if not 0.0 <= self.edit < 1.0:
            raise OptionError(f"edit={self.edit} is not allowed; allowed: from 0 to less than 1")


def give_frames(
    latents: Tensor,
    image: Any,
    conditions: Sequence[FrameCondition],
    size: tuple[int, int],
    vae: Any,
    total: int,
    generator: torch.Generator | list[torch.Generator] | None = None,
    repeated: int = 1,
) -> FrameMask | None:
    """Writes the frames that are given into `latents` (B, C, T, h, w); says which those are, None where there are none.

    image       a first frame for all rows, one for each prompt, or None
    conditions  further frames, the same in every row
    size        (height, width) in pixels, which the frames are made to fill
    vae         an AutoencoderKLOpenSora; it draws its latents from `generator`
    total       what time 1 is called
    repeated    rows of each prompt, which stand one behind the other

    Raises OptionError for anything but pictures, another number of them than prompts, and a place outside of the video.
    """
    rows = len(latents)
    images = [] if image is None else _per_row(image, rows // repeated, repeated)
    first = [[FrameCondition(frames=one)] for one in images] or [[]] * rows
    if not any(first) and not conditions:
        return None
    edit = torch.ones(rows, latents.shape[2], device=latents.device)
    for row in range(rows):
        own = generator[row] if isinstance(generator, list) else generator
        for condition in (*first[row], *conditions):
            video = as_video(condition.frames, *size)[None].to(latents.device, vae.dtype)
            place(latents, row, condition, vae.encode(video, generator=own)[0], edit)

    def draw() -> Tensor:
        noise: Tensor = randn_tensor(latents.shape, generator, latents.device, latents.dtype)
        return noise

    return FrameMask(edit, total, draw)


def place(latents: Tensor, row: int, condition: FrameCondition, encoded: Tensor, mask: Tensor) -> None:
    """Writes `encoded` (C, T', H, W) into `latents` (B, C, T, H, W), and what it is edited by into `mask` (B, T).

    Raises OptionError where the condition begins after the end of the video.
    """
    chunks = -(-latents.shape[2] // CHUNK_LATENTS)
    chunk = condition.at + chunks if condition.at < 0 else condition.at // CHUNK_FRAMES
    if not 0 <= chunk < chunks:
        allowed = ", ".join(str(i * CHUNK_FRAMES) for i in range(chunks))
        raise OptionError(f"at={condition.at} is outside of the video; allowed: {allowed}, or -{chunks} to -1")
    start = chunk * CHUNK_LATENTS
    count = min(encoded.shape[1], latents.shape[2] - start)
    latents[row, :, start : start + count] = encoded[:, :count].to(latents)
    mask[row, start : start + count] = condition.edit


def _per_row(value: Any, prompts: int, repeated: int) -> list[Any]:
    """A picture for each row of the batch: one for all, or a list with one for each prompt. Raises OptionError."""
    if _is_picture(value):
        return [value] * (prompts * repeated)
    pictures = _pictures(value)
    if len(pictures) != prompts:
        raise OptionError(
            f"image holds {len(pictures)} pictures; allowed: one, or one for each of the {prompts} prompts"
        )
    return [picture for picture in pictures for _ in range(repeated)]


def _pictures(value: Any) -> list[Any]:
    """`value` as pictures, one or several. Raises OptionError for anything else."""
    if _is_picture(value):
        return [value]
    pictures = list(value) if isinstance(value, Sequence | np.ndarray | Tensor) else []
    if not pictures or not all(_is_picture(picture) for picture in pictures):
        raise OptionError(
            f"{type(value).__name__} is not allowed where frames are given; allowed: a picture or a sequence of them: "
            "PIL, arrays (H, W, 3) of bytes or 0 … 1, tensors (3, H, W) of 0 … 1"
        )
    return pictures


def as_video(frames: Any, height: int, width: int) -> Tensor:
    """(3, T, height, width) in −1 … 1 of one picture or a sequence of them, scaled and cropped about the centre.

    Raises OptionError for anything but pictures.
    """
    video = torch.stack([_as_tensor(_filling(_as_pil(picture), height, width)) for picture in _pictures(frames)], dim=1)
    return video * 2 - 1


class FrameMask:
    """Which frames are generated at which step (the sampling of masked frames in Open-Sora 1.2).

    `edit` (B, T) is 1 where a frame is generated from noise, 0 where it is given, and between them where a given
    frame is to be changed: it stays as it is until the time has fallen to that share of 1000, is noised then, and
    generated from there on.
    """

    def __init__(self, edit: Tensor, total: float, draw: Callable[[], Tensor]) -> None:
        """`total` is what time 1 is called; `draw` gives noise like the latent."""
        self._edit, self._total, self._draw = edit, total, draw
        self._begun = edit >= 1

    def begin(self, latents: Tensor, time: Tensor, add_noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """The latent with the frames noised whose turn it is, and (B, T) which are generated in this step."""
        active = (self._edit >= 1) | (self._edit * self._total >= time)
        fresh = active & ~self._begun
        self._begun = active
        if not bool(fresh.any()):
            return latents, active
        noised = add_noise(latents, self._draw(), time.reshape(1).expand(len(latents)))
        return torch.where(_over(fresh), noised.to(latents), latents), active

    def keep(self, moved: Tensor, before: Tensor, active: Tensor) -> Tensor:
        """The latent after a step, with the frames that are not generated as they were before it."""
        return torch.where(_over(active), moved, before.to(moved))


def _over(mask: Tensor) -> Tensor:
    return mask[:, None, :, None, None]  # (B, T) -> (B, 1, T, 1, 1)


def _is_picture(value: Any) -> bool:
    if isinstance(value, PIL.Image.Image):
        return True
    return isinstance(value, np.ndarray | Tensor) and value.ndim == 3


def _as_pil(picture: Any) -> PIL.Image.Image:
    if isinstance(picture, PIL.Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, Tensor):
        picture = picture.detach().permute(1, 2, 0).float().cpu().numpy()
    if picture.dtype != np.uint8:
        picture = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    return PIL.Image.fromarray(picture).convert("RGB")


def _filling(picture: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    """As small as it can be while it fills the frame, and what stands out of it cut off."""
    factor = max(height / picture.height, width / picture.width)
    size = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    picture = picture.resize(size, PIL.Image.Resampling.BICUBIC)
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def _as_tensor(picture: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
