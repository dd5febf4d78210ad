"""The originals' samplers, one step at a time: float64 tables, float32 arithmetic (method.md §1-3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TRAINING_STEPS = 1000


def linear_betas() -> NDArray[np.float64]:
    """The noise schedule that DiT and PixArt were trained with."""
    return np.linspace(1e-4, 0.02, TRAINING_STEPS, dtype=np.float64)


class Ancestral:
    """DiT's diffusion over the training steps in `timestep_map` alone (Ho et al. 2020; Song et al. 2021)."""

    def __init__(self, timestep_map: Sequence[int]) -> None:
        """`timestep_map[i]` is the training step of the i-th kept one, ascending."""
        signal = np.cumprod(1.0 - linear_betas())[np.asarray(timestep_map, dtype=np.int64)]
        before = np.append(1.0, signal[:-1])
        betas = 1.0 - signal / before
        variance = betas * (1.0 - before) / (1.0 - signal)
        self._signal, self._before = signal, before
        self._log_largest = np.log(betas)
        self._log_smallest = np.log(np.append(variance[1:2], variance[1:]))  # the first is 0: take the second
        self._from_clean = betas * np.sqrt(before) / (1.0 - signal)
        self._from_noisy = (1.0 - before) * np.sqrt(1.0 - betas) / (1.0 - signal)
        self._noisy_scale = np.sqrt(1.0 / signal)
        self._noise_scale = np.sqrt(1.0 / signal - 1.0)

    def clean(self, x: Tensor, noise: Tensor, i: int) -> Tensor:
        """The clean latent that predicted `noise` implies at kept step `i`."""
        return _f32(self._noisy_scale[i]) * x - _f32(self._noise_scale[i]) * noise

    def ddim(self, x: Tensor, noise: Tensor, i: int) -> Tensor:
        """DDIM's step from `i` to `i - 1` with eta 0."""
        clean = self.clean(x, noise, i)
        noise = (_f32(self._noisy_scale[i]) * x - clean) / _f32(self._noise_scale[i])
        before = _f32(self._before[i])
        return clean * torch.sqrt(before) + torch.sqrt(1 - before) * noise

    def ddpm(self, x: Tensor, noise: Tensor, blend: Tensor, i: int, fresh: Tensor) -> Tensor:
        """An ancestral step from `i` to `i - 1`; `blend` in [-1, 1] mixes the smallest and largest log-variance."""
        mean = _f32(self._from_clean[i]) * self.clean(x, noise, i) + _f32(self._from_noisy[i]) * x
        if i == 0:
            return mean
        share = (blend + 1) / 2
        log_variance = share * _f32(self._log_largest[i]) + (1 - share) * _f32(self._log_smallest[i])
        return mean + torch.exp(0.5 * log_variance) * fresh


class Multistep:
    """DPM-Solver++ 2M in continuous time with uniform steps (Lu et al. 2022, arXiv 2211.01095)."""

    def __init__(self, steps: int) -> None:
        log_alpha = 0.5 * torch.log(1 - torch.from_numpy(linear_betas())).cumsum(0)
        self._log_alpha = log_alpha.to(torch.float32)
        self._grid = torch.linspace(0.0, 1.0, TRAINING_STEPS + 1)[1:]
        self.times = torch.linspace(1.0, 1.0 / TRAINING_STEPS, steps + 1)
        self._clean: list[Tensor] = []

    def timestep(self, i: int) -> Tensor:
        """What the model is given as its timestep at evaluation `i`: 0 … 999, fractions included."""
        return (self.times[i] - 1.0 / TRAINING_STEPS) * 1000.0

    def step(self, x: Tensor, noise: Tensor, i: int) -> Tensor:
        """The latent at time i + 1 from the latent `x` and the predicted `noise` at time i."""
        log_alpha, sigma = self._at(i)
        self._clean.append((x - sigma * noise) / torch.exp(log_alpha))
        log_alpha_next, sigma_next = self._at(i + 1)
        ahead = self._half_snr(i + 1) - self._half_snr(i)
        pull = torch.exp(log_alpha_next) * torch.expm1(-ahead)
        moved = (sigma_next / sigma) * x - pull * self._clean[-1]
        if i == 0 or (self._last(i) and self._steps < 10):
            return moved
        ratio = (self._half_snr(i) - self._half_snr(i - 1)) / ahead
        slope = (1.0 / ratio) * (self._clean[-1] - self._clean[-2])
        return moved - 0.5 * pull * slope

    @property
    def _steps(self) -> int:
        return len(self.times) - 1

    def _last(self, i: int) -> bool:
        return i == self._steps - 1

    def _at(self, i: int) -> tuple[Tensor, Tensor]:
        """log α and σ at time i, between the training steps by linear interpolation of log α."""
        time = self.times[i]
        right = int(torch.searchsorted(self._grid, time).clamp(1, len(self._grid) - 1))
        x0, x1, y0, y1 = self._grid[right - 1], self._grid[right], self._log_alpha[right - 1], self._log_alpha[right]
        log_alpha = y0 + (time - x0) * (y1 - y0) / (x1 - x0)
        return log_alpha, torch.sqrt(1.0 - torch.exp(2.0 * log_alpha))

    def _half_snr(self, i: int) -> Tensor:
        log_alpha, _ = self._at(i)
        return log_alpha - 0.5 * torch.log(1.0 - torch.exp(2.0 * log_alpha))


def guided(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022)."""
    return uncond + scale * (cond - uncond)


def _f32(value: float) -> Tensor:
    """A table's float64 entry as the float32 scalar that the originals multiply with."""
    return torch.tensor(value, dtype=torch.float32)
