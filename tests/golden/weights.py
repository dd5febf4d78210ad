"""The golden models: weights drawn by rule under their original names, converted to diffusers' classes and ours."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, PixArtTransformer2DModel
from torch import Tensor, nn

from tocache.models.originals import convert_dit, convert_flux, convert_pixart, exact_timestep_embedding
from tocache.opensora import STDiT3Transformer3DModel
from tocache.opensora.original import transformer_config

from .cases import Golden


def state_dict(spec: Mapping[str, Any]) -> dict[str, Tensor]:
    """The original's float32 parameters, without those that the model makes itself (README of the golden data)."""
    kept = spec["kept"]
    return {
        name: fill(name, shape, spec["overrides"])
        for name, shape in spec["shapes"].items()
        if not any(part in name for part in kept)
    }


def fill(name: str, shape: Sequence[int], overrides: Sequence[tuple[str, float, float]]) -> Tensor:
    """offset + scale · z, with z normal and seeded by the name; matrices are scaled by their fan-in."""
    fan_in = math.prod(shape[1:])
    offset, scale = 0.0, 1 / math.sqrt(fan_in) if len(shape) >= 2 else 0.1
    for part, its_offset, its_scale in overrides:
        if part in name:
            offset, scale = its_offset, its_scale if its_scale >= 0 else -its_scale / math.sqrt(fan_in)
            break
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((offset + scale * z).astype(np.float32))


def build(golden: Golden, size: int | None) -> nn.Module:
    """The file's model as diffusers' transformer or ours; for latents of `size` x `size` (DiT, PixArt)."""
    weights, config = state_dict(golden.spec), golden.config
    model: Any
    if golden.family == "flux":
        settings, converted = convert_flux(weights, axes_dims_rope=config["axes_dim"])
        model = FluxTransformer2DModel
    elif golden.family == "pixart":
        settings, converted = convert_pixart(weights, num_heads=config["num_heads"], sample_size=size)
        settings["interpolation_scale"] = config.get("lewei_scale", settings["interpolation_scale"])
        model = PixArtTransformer2DModel
    elif golden.family == "opensora":
        kept = {name: torch.empty(shape) for name, shape in golden.spec["shapes"].items()}
        settings, converted = transformer_config(kept, {}), weights
        model = STDiT3Transformer3DModel
    else:
        settings, converted = convert_dit(weights, num_heads=config["num_heads"], sample_size=size)
        model = DiTTransformer2DModel
    transformer: nn.Module = model(**settings)
    # the frequencies of Open-Sora's rotary embedding are kept as the model makes them
    transformer.load_state_dict(converted, strict=golden.family != "opensora")
    if golden.family == "dit":
        exact_timestep_embedding(transformer)
    return transformer.eval()
