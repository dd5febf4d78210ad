"""Rectified flow (Liu et al. 2022, arXiv 2209.03003) as Open-Sora 1.2 samples it: Euler steps on shifted times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from torch import Tensor

from tocache.errors import OptionError
from tocache.opensora.sizes import CHUNK_FRAMES, CHUNK_LATENTS, latent_frames


@dataclass
class RFlowSchedulerOutput(BaseOutput):  # type: ignore[misc]
    """`prev_sample`: the latent at the next time."""

    prev_sample: Tensor


class RFlowScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Times fall from 1000 to 0; the model predicts the velocity from noise to the clean latent.

    num_train_timesteps     what time 1 is called
    use_timestep_transform  times stay high for longer, the larger and longer the video is
    base_resolution         pixels of the frame whose times are not moved
    transform_scale         a further factor of the move
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        use_timestep_transform: bool = True,
        base_resolution: int = 512 * 512,
        transform_scale: float = 1.0,
    ) -> None:
        self.timesteps = torch.empty(0)
        self.num_inference_steps: int | None = None
        self._step_index: int | None = None
        self._begin_index: int | None = None

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: str | torch.device | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Start a run: `timesteps` becomes (num_inference_steps,) float32, falling from 1000; 0 is not in it.

        height, width, num_frames  of the video in pixels and frames, for the timestep transform; without them the
                                   times are not moved
        dtype                      in which the sizes are told to the model: the original works the ratio out in it

        Raises OptionError for fewer than one step and for a size that is not whole.
        """
        if num_inference_steps < 1:
            raise OptionError(f"num_inference_steps={num_inference_steps} is not allowed; allowed: an integer >= 1")
        total = self.config.num_train_timesteps
        times = torch.tensor([(1.0 - i / num_inference_steps) * total for i in range(num_inference_steps)])
        sizes = (height, width, num_frames)
        if any(size is not None for size in sizes):
            if height is None or width is None or num_frames is None:
                raise OptionError("height, width and num_frames are given together, or none of them")
            times = self.moved(times, height, width, num_frames, dtype)
        self.timesteps = times.to(device)
        self.num_inference_steps = num_inference_steps
        self._step_index = self._begin_index = None

    def moved(
        self, times: Tensor, height: int, width: int, num_frames: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """`times` of any shape as the timestep transform moves them for a video of this size; 0 and 1000 stay.

        A model is trained at times that are moved in the same way.
        """
        if not self.config.use_timestep_transform:
            return times
        ratio = self._ratio(height, width, num_frames, dtype)
        shares = times / self.config.num_train_timesteps
        moved: Tensor = ratio * shares / (1 + (ratio - 1) * shares) * self.config.num_train_timesteps
        return moved

    def _ratio(self, height: int, width: int, num_frames: int, dtype: torch.dtype) -> Tensor:
        """(1,) √(H·W / base) · √(latent frames): how far the times are moved; a tensor, to round as the original's."""
        rows, columns, frames = (torch.tensor([size], dtype=dtype) for size in (height, width, num_frames))
        space = (rows * columns / self.config.base_resolution).sqrt()
        if num_frames < CHUNK_FRAMES:  # the original knows single frames and whole chunks only
            depth = torch.tensor([latent_frames(num_frames)], dtype=dtype)
        else:
            depth = frames // CHUNK_FRAMES * CHUNK_LATENTS
        ratio: Tensor = space * depth.sqrt() * self.config.transform_scale
        return ratio

    @property
    def step_index(self) -> int | None:
        """Steps taken in this run, counted from its beginning; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """The step that the run begins at, where `set_begin_index` said so."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the run at a later step."""
        self._begin_index = begin_index

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """`sample` as it is."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> RFlowSchedulerOutput | tuple[Tensor]:
        """z + v · Δt / 1000, from this time to the next, the last one being 0.

        `model_output` is the velocity, shaped like `sample`; the result has the wider of their dtypes, so that a
        latent is float32 from the first step on. Raises OptionError for a step after the last, and for a `timestep`
        that is none of the run's where it must be found by it.
        """
        if self._step_index is None:
            self._step_index = self._first_step(timestep)
        i = self._step_index
        if i >= len(self.timesteps):
            raise OptionError(f"the run has {len(self.timesteps)} steps, all taken; set_timesteps begins another")
        now = self.timesteps[i]
        after = self.timesteps[i + 1] if i + 1 < len(self.timesteps) else torch.zeros_like(now)
        moved = sample + model_output * ((now - after) / self.config.num_train_timesteps).to(sample.device)
        self._step_index = i + 1
        return RFlowSchedulerOutput(prev_sample=moved) if return_dict else (moved,)

    def _first_step(self, timestep: Tensor | float) -> int:
        if self._begin_index is not None:
            return self._begin_index
        time = torch.as_tensor(timestep).flatten()[:1].to(self.timesteps)
        found = (self.timesteps == time).nonzero()
        if not len(found):
            raise OptionError(f"timestep={float(time)} is none of the run's {len(self.timesteps)}")
        return int(found[0])

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(1 − t) · x + t · noise, with t (B,) in 0 … 1000."""
        share = timesteps.float() / self.config.num_train_timesteps
        share = share.to(original_samples.device).reshape(-1, *[1] * (original_samples.ndim - 1))
        noisy: Tensor = (1 - share) * original_samples + share * noise
        return noisy

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)
