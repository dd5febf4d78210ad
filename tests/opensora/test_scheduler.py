"""Rectified flow: times by the formula, Euler steps, errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tocache.errors import OptionError
from tocache.opensora import RFlowScheduler


@pytest.mark.parametrize(
    ("height", "width", "frames", "latents"),
    [
        (480, 854, 51, 15),
        (240, 426, 102, 30),
        (512, 512, 1, 1),
        (720, 1280, 408, 120),
        (256, 256, 20, 5),
        (64, 64, 8, 2),
    ],
)
def test_times_follow_the_formula(height: int, width: int, frames: int, latents: int) -> None:
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(30, height=height, width=width, num_frames=frames)
    ratio = math.sqrt(height * width / 512**2) * math.sqrt(latents)
    for i, time in enumerate(scheduler.timesteps.tolist()):
        t = 1 - i / 30
        assert time == pytest.approx(1000 * ratio * t / (1 + (ratio - 1) * t), rel=1e-5)


def test_ratio_is_worked_out_in_the_dtype_of_the_model() -> None:
    """In bf16, 480 · 854 is 480 · 856 and rounds again: the original's times are those of that number."""
    exact, rough = RFlowScheduler(), RFlowScheduler()
    exact.set_timesteps(30, height=480, width=854, num_frames=51)
    rough.set_timesteps(30, height=480, width=854, num_frames=51, dtype=torch.bfloat16)
    assert rough.timesteps.dtype == torch.float32
    assert not torch.equal(exact.timesteps, rough.timesteps)
    torch.testing.assert_close(exact.timesteps, rough.timesteps, rtol=0.01, atol=0.0)


def test_times_are_even_without_transform() -> None:
    plain, unmoved = RFlowScheduler(use_timestep_transform=False), RFlowScheduler()
    plain.set_timesteps(4, height=480, width=854, num_frames=51)
    unmoved.set_timesteps(4)
    assert plain.timesteps.tolist() == unmoved.timesteps.tolist() == [1000.0, 750.0, 500.0, 250.0]


def test_constant_velocity_arrives() -> None:
    """Steps of a straight path add up to the path: from noise to noise + velocity."""
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(7, height=480, width=854, num_frames=51)
    noise, clean = torch.randn(2, 4, 5, 3, 3, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4, 5, 3, 3)
    z = noise
    for i, time in enumerate(scheduler.timesteps):
        assert scheduler.step_index == (i or None)
        (z,) = scheduler.step(clean - noise, time, z, return_dict=False)
    torch.testing.assert_close(z, clean)
    with pytest.raises(OptionError, match="has 7 steps, all taken"):
        scheduler.step(z, 0.0, z)


def test_step_gives_the_wider_dtype() -> None:
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(2)
    z = scheduler.step(torch.ones(1, 1, 1, 1, 1), 1000.0, torch.zeros(1, 1, 1, 1, 1, dtype=torch.bfloat16)).prev_sample
    assert (z.dtype, z.item()) == (torch.float32, 0.5)


def test_begins_where_it_is_told() -> None:
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(4)
    z = torch.zeros(1)
    scheduler.step(z, torch.tensor(500.0), z)
    assert scheduler.step_index == 3
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(1)
    scheduler.step(z, 12345.0, z)
    assert (scheduler.begin_index, scheduler.step_index) == (1, 2)


def test_noise_is_added_along_the_path() -> None:
    scheduler = RFlowScheduler()
    x, noise = torch.full((3, 4, 2, 1, 1), 8.0), torch.zeros(3, 4, 2, 1, 1)
    noisy = scheduler.add_noise(x, noise, torch.tensor([0.0, 250.0, 1000.0]))
    assert noisy[:, 0, 0, 0, 0].tolist() == [8.0, 6.0, 0.0]
    assert scheduler.scale_model_input(x, 5.0) is x
    assert (scheduler.order, scheduler.init_noise_sigma, len(scheduler)) == (1, 1.0, 1000)


def test_saves_and_loads(tmp_path: Path) -> None:
    RFlowScheduler(transform_scale=2.0).save_pretrained(tmp_path)
    loaded = RFlowScheduler.from_pretrained(tmp_path)
    loaded.set_timesteps(2, height=512, width=512, num_frames=1)
    assert loaded.timesteps.tolist() == pytest.approx([1000.0, 2000 / 3])


def test_bad_input() -> None:
    scheduler = RFlowScheduler()
    with pytest.raises(OptionError, match="num_inference_steps=0 is not allowed; allowed: an integer >= 1"):
        scheduler.set_timesteps(0)
    with pytest.raises(OptionError, match="given together"):
        scheduler.set_timesteps(3, height=480)
    scheduler.set_timesteps(3)
    with pytest.raises(OptionError, match=r"timestep=77.0 is none of the run's 3"):
        scheduler.step(torch.zeros(1), 77.0, torch.zeros(1))
