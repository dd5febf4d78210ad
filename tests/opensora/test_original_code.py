"""Against outputs of Open-Sora v1.2.0's own code on small random models, for what the golden runs leave out.

`data/original_code.npz` was made by running that code (STDiT3 with a frame mask, the temporal autoencoder) on the CPU
in float32, with weights and inputs by the rules below: every tensor is drawn by its name in the original's state dict.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tocache.opensora import STDiT3Transformer3DModel
from tocache.opensora.temporal_vae import TemporalAutoencoder

TOLERANCE = 1e-5  # measured: 3e-7 (transformer), 0 (autoencoder)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data" / "original_code.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def drawn_by_name(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = dict(state)
    for name in weights.keys() - {"rope.freqs"}:
        shape = tuple(weights[name].shape)
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            z = z / math.sqrt(math.prod(shape[1:]))
        else:
            z = 0.1 * z + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        weights[name] = torch.from_numpy(z.astype(np.float32))
    return weights


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_frame_mask(recorded: dict[str, Tensor]) -> None:
    """Equal in the frames that are generated. The original's final layer normalises the given ones twice, and its
    sampler throws them away; here they are what timestep 0 gives."""
    model: Any = STDiT3Transformer3DModel(
        num_layers=2, num_attention_heads=4, attention_head_dim=12, caption_channels=32, max_text_length=20
    ).eval()
    model.load_state_dict(drawn_by_name(model.state_dict()))
    generated = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 0, 0, 1]]).bool()
    mask = torch.arange(20) < torch.tensor([[11], [7]])
    inputs = (normal(1, 2, 4, 5, 9, 13), torch.tensor([755.3]), normal(2, 2, 1, 20, 32), mask, generated)
    ours = model(*inputs, fps=24.0, height=480.0, width=854.0).sample
    theirs = recorded["frame_mask"]
    where = generated[:, None, :, None, None]
    assert relative(torch.where(where, ours, 0), torch.where(where, theirs, 0)) < TOLERANCE
    assert relative(torch.where(where, 0, ours), torch.where(where, 0, theirs)) > 1e-2


@pytest.mark.parametrize(("frames", "latents"), [(17, 5), (3, 1)])
@torch.no_grad()
def test_temporal_autoencoder(recorded: dict[str, Tensor], frames: int, latents: int) -> None:
    vae = TemporalAutoencoder(4, 4, (8, 16, 16, 32), (False, True, True), blocks=2, groups=4).eval()
    vae.load_state_dict(drawn_by_name(vae.state_dict()))
    assert relative(vae.encode(normal(3, 1, 4, frames, 3, 4)), recorded[f"moments_{frames}"]) < TOLERANCE
    assert relative(vae.decode(normal(4, 1, 4, latents, 3, 4), frames), recorded[f"decoded_{frames}"]) < TOLERANCE
