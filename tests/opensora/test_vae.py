"""The autoencoder: its size, its chunks, causality, memory options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tocache.errors import OptionError
from tocache.opensora import AutoencoderKLOpenSora
from tocache.opensora.temporal_vae import CausalConv3d, drawn


def clip(frames: int, rows: int = 1) -> Tensor:
    return torch.rand(rows, 3, frames, 16, 24, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def latent(frames: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, 4, frames, 2, 3, generator=torch.Generator().manual_seed(frames))


def test_published_size() -> None:
    with torch.device("meta"):
        vae = AutoencoderKLOpenSora()
    assert sum(parameter.numel() for parameter in vae.temporal_vae.parameters()) == 309_687_144
    assert sum(parameter.numel() for parameter in vae.parameters()) == 393_341_007
    assert vae.pixels_per_latent == 8


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (3, 1), (17, 5), (20, 6), (34, 10), (51, 15)])
@torch.no_grad()
def test_frames_in_frames_out(tiny_vae: Callable[..., Any], frames: int, latents: int) -> None:
    vae = tiny_vae()
    assert vae.latent_frames(frames) == latents
    z = vae.encode(clip(frames), sample=False)
    assert z.shape == (1, 4, latents, 2, 3)
    assert vae.decode(z, frames).shape == (1, 3, frames, 16, 24)
    assert vae(clip(frames)).shape == (1, 3, frames, 16, 24)


@torch.no_grad()
def test_chunks_do_not_know_each_other(tiny_vae: Callable[..., Any]) -> None:
    """A chunk decoded, or encoded, alone is what it is among others (up to the order of sums in a larger batch)."""
    vae = tiny_vae()
    z = latent(11)
    alone = [vae.decode(part, frames) for part, frames in zip(torch.split(z, 5, dim=2), (17, 17, 3), strict=True)]
    torch.testing.assert_close(vae.decode(z, 37), torch.cat(alone, dim=2), rtol=1e-5, atol=1e-5)
    video = clip(37)
    encoded = [vae.encode(part, sample=False) for part in torch.split(video, 17, dim=2)]
    torch.testing.assert_close(vae.encode(video, sample=False), torch.cat(encoded, dim=2), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_frames_at_once_changes_memory_alone(tiny_vae: Callable[..., Any]) -> None:
    vae = tiny_vae()
    assert vae.frames_at_once == 4
    expected = vae.decode(latent(5, rows=2), 17)
    for frames in (1, None):
        vae.frames_at_once = frames
        torch.testing.assert_close(vae.decode(latent(5, rows=2), 17), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(OptionError, match="frames_at_once=0 is not allowed; allowed: None or an integer >= 1"):
        vae.frames_at_once = 0


@torch.no_grad()
def test_time_is_causal(tiny_vae: Callable[..., Any]) -> None:
    """Group norms see a whole chunk, but no convolution looks ahead."""
    conv = CausalConv3d(2, 2)
    x = torch.randn(1, 2, 6, 3, 3)
    later = x.clone()
    later[:, :, 4:] += 1.0
    assert torch.equal(conv(x)[:, :, :4], conv(later)[:, :, :4])
    assert CausalConv3d(2, 2, time_stride=2)(x).shape == (1, 2, 3, 3, 3)


@torch.no_grad()
def test_latents_are_normalised(tiny_vae: Callable[..., Any]) -> None:
    plain = tiny_vae(latent_shift=(0.0,) * 4, latent_scale=(1.0,) * 4)
    scaled = tiny_vae(latent_shift=(1.0, 2.0, 3.0, 4.0), latent_scale=(2.0,) * 4)
    z = plain.encode(clip(4), sample=False)
    shift = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1, 1)
    torch.testing.assert_close(scaled.encode(clip(4), sample=False), (z - shift) / 2)
    torch.testing.assert_close(scaled.decode((z - shift) / 2, 4), plain.decode(z, 4), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_draws_from_what_it_predicts(tiny_vae: Callable[..., Any]) -> None:
    vae = tiny_vae()
    first, second = (vae.encode(clip(4), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0))
    assert torch.equal(first, second)
    assert not torch.equal(first, vae.encode(clip(4), sample=False))
    moments = torch.cat([torch.full((1, 1), 3.0), torch.full((1, 1), 2.0).log()], dim=1)
    assert drawn(moments, torch.ones(1, 1)).item() == pytest.approx(3 + 2**0.5)


@torch.no_grad()
def test_wrong_number_of_latents(tiny_vae: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match="latents of 6 frames are not 17 frames; expected 5"):
        tiny_vae().decode(latent(6), 17)


@torch.no_grad()
def test_bf16(tiny_vae: Callable[..., Any]) -> None:
    vae = tiny_vae()
    exact = vae.decode(latent(5), 17)
    rough = vae.to(torch.bfloat16).decode(latent(5).bfloat16(), 17)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


@torch.no_grad()
def test_tiles(tiny_vae: Callable[..., Any]) -> None:
    """Frames larger than a tile are coded in tiles, whatever size the decoder's config names; smaller ones are not."""
    vae = tiny_vae()
    z = torch.randn(1, 4, 1, 12, 6, generator=torch.Generator().manual_seed(0))
    exact = vae.decode(z, 4)
    seen: list[tuple[int, ...]] = []
    vae.spatial_vae.module.decoder.register_forward_pre_hook(
        lambda _module, args: seen.append(tuple(args[0].shape[2:]))
    )
    vae.enable_tiling()
    assert torch.equal(vae.decode(z, 4), exact)
    assert seen == [(12, 6)]
    seen.clear()
    vae.enable_tiling(64)
    tiled = vae.decode(z, 4)
    assert max(seen) == (8, 6)
    assert tiled.shape == exact.shape
    assert torch.corrcoef(torch.stack([tiled.flatten(), exact.flatten()]))[0, 1] > 0.8
    assert vae.encode(exact, sample=False).shape == z.shape
    vae.enable_tiling(32)
    for side in range(26, 36):  # some of which leave a tile of less than a latent pixel
        encoded = vae.encode(torch.zeros(1, 3, 1, 48, side), sample=False)
        assert encoded.shape[-2:] == (6, side // 8)
    vae.disable_tiling()
    assert torch.equal(vae.decode(z, 4), exact)
    for side in (24, 36):
        with pytest.raises(OptionError, match=f"side={side} is not allowed; allowed: a multiple of 8 from 32 on"):
            vae.enable_tiling(side)


@torch.no_grad()
def test_saves_and_loads(tiny_vae: Callable[..., Any], tmp_path: Path) -> None:
    vae = tiny_vae()
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderKLOpenSora.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == vae.state_dict().keys()
    assert torch.equal(loaded.decode(latent(5), 17), vae.decode(latent(5), 17))
