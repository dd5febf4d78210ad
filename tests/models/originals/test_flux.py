"""FLUX checkpoints in their real layout; tests/golden compares their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from tocache.errors import OptionError
from tocache.models.originals import convert_flux, load_original

from .layouts import saved


def test_loads(tmp_path: Path, flux: dict[str, Tensor]) -> None:
    flux |= {"single_blocks.0.mlp_in.weight": torch.zeros(4, 4)}
    transformer: Any = load_original(saved(tmp_path, flux))
    assert isinstance(transformer, FluxTransformer2DModel)
    assert transformer.config.guidance_embeds
    block = transformer.single_transformer_blocks[0]
    parts = (block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp)
    fused = torch.cat([part.weight for part in parts])
    assert torch.equal(fused, flux["single_blocks.0.linear1.weight"])
    shift, scale = flux["final_layer.adaLN_modulation.1.bias"].chunk(2)
    assert torch.equal(transformer.norm_out.linear.bias, torch.cat([scale, shift]))


def test_its_tensors_tell_all(tmp_path: Path, flux: dict[str, Tensor]) -> None:
    with pytest.raises(OptionError, match="num_heads: not an option of a FLUX checkpoint"):
        load_original(saved(tmp_path, flux), num_heads=2)


def test_axes_must_fill_a_head(flux: dict[str, Tensor]) -> None:
    with pytest.raises(OptionError, match="three even numbers whose sum is 128"):
        convert_flux(flux, axes_dims_rope=(16, 56, 54))
