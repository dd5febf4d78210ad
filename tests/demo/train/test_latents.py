"""Latents on disk are those of the pictures, and of as many as are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tocache.demo.train import latents as module
from tocache.demo.train.latents import cached_latents

Encoder = Callable[[Tensor], Tensor]


class Source:
    """Picture number n is a plain grey of 0.01 n, and its label n."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, first: int, number: int) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(first, first + number)
        self.made += numbers.tolist()
        return (0.01 * numbers)[:, None, None, None].expand(-1, 3, 16, 16).clone(), numbers.to(torch.uint8)


@pytest.fixture(scope="module")
def encode() -> Encoder:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=1,
        latent_channels=4,
    ).eval()
    return lambda pictures: 0.5 * vae.encode(pictures).latent_dist.mean


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD", 10)
    monkeypatch.setattr(module, "_BATCH", 4)


@torch.no_grad()
def test_latents_are_what_the_encoder_gives(tmp_path: Path, encode: Encoder) -> None:
    source = Source()
    latents, labels = cached_latents(tmp_path, "some", 13, source, encode)
    assert latents.dtype == torch.float16
    assert labels.tolist() == source.made == list(range(13))
    wanted = torch.cat([encode(source(n, 1)[0]) for n in range(13)])
    torch.testing.assert_close(latents.float(), wanted, atol=2e-2, rtol=2e-2)  # perhaps made in bfloat16


def test_what_is_there_is_not_made_again(tmp_path: Path, encode: Encoder) -> None:
    source = Source()
    first = cached_latents(tmp_path, "some", 20, Source(), encode)
    again = cached_latents(tmp_path, "some", 20, source, encode)
    assert source.made == []
    assert torch.equal(first[0], again[0])
    assert len(cached_latents(tmp_path, "some", 7, source, encode)[0]) == 7
    assert source.made == []
    cached_latents(tmp_path, "other", 5, source, encode)
    assert source.made == list(range(5))


def test_more_pictures_than_before_are_all_made(tmp_path: Path, encode: Encoder) -> None:
    """A last file that is short may not stand in the middle: the numbers after it would be those of other pictures."""
    cached_latents(tmp_path, "some", 13, Source(), encode)
    source = Source()
    latents, labels = cached_latents(tmp_path, "some", 30, source, encode)
    assert labels.tolist() == list(range(30))
    assert len(latents) == 30
    assert source.made == list(range(10, 30))
