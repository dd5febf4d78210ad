"""From a checkpoint file to a diffusers transformer in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, PixArtTransformer2DModel
from torch import nn

from tocache.checkpoints.checks import StateDict, listed, naming
from tocache.checkpoints.files import read_tensors
from tocache.errors import CheckpointError, OptionError
from tocache.models.originals.dit import convert_dit, exact_timestep_embedding
from tocache.models.originals.flux import convert_flux
from tocache.models.originals.pixart import convert_pixart, negative_caption

# a tensor that only this family has, its conversion and its class
_FAMILIES: Mapping[str, tuple[Any, Any]] = {
    "y_embedder.embedding_table.weight": (convert_dit, DiTTransformer2DModel),
    "t_block.1.weight": (convert_pixart, PixArtTransformer2DModel),
    "vector_in.in_layer.weight": (convert_flux, FluxTransformer2DModel),
}


def load_original(
    path: str | Path,
    *,
    weights: str | None = None,
    num_heads: int | None = None,
    sample_size: int | None = None,
    dtype: torch.dtype | None = None,
    exact_timesteps: bool = True,
) -> nn.Module:
    """The diffusers transformer that equals an original DiT, PixArt-α or FLUX checkpoint, on the CPU, in eval mode.

    The family and all sizes are found from the tensors. Pickled code is never run.

    path             a file, or a folder that holds one under a usual name
    weights          which state dict of a file that has several (`ema`, `model`, `state_dict`, …); default: the one
                     that the original's sampling script reads
    num_heads        attention heads, where the hidden size is none of the published ones (DiT, PixArt)
    sample_size      side of the latent in latent pixels, where the file has no `pos_embed` (DiT, PixArt)
    dtype            of the model; None: float32
    exact_timesteps  DiT: embed timesteps as in training; see `exact_timestep_embedding`

    Returns a DiTTransformer2DModel, PixArtTransformer2DModel or FluxTransformer2DModel. A PixArt transformer gets the
    trained embedding of no caption as the buffer `negative_caption` (tokens, caption channels) or None; it moves with
    the model and is not in its state dict.

    Raises CheckpointError for pickled code, an unknown family, and missing, unexpected or misshapen tensors, which
    it names; OptionError for an impossible option; OSError where the file cannot be opened.
    """
    state = read_tensors(path, weights)
    options = {"num_heads": num_heads, "sample_size": sample_size}
    with naming(path):
        convert, model = _family(state)
        if convert is convert_flux:
            _refuse(options)
            options = {}
        config, converted = convert(state, **options)
    transformer: nn.Module = model(**config)
    transformer.load_state_dict(converted)
    if convert is convert_dit:
        exact_timestep_embedding(transformer, exact_timesteps)
    if convert is convert_pixart:
        transformer.register_buffer("negative_caption", negative_caption(state), persistent=False)
    return transformer.to(dtype or torch.float32).eval()


def _family(state: StateDict) -> tuple[Any, Any]:
    found = [family for mark, family in _FAMILIES.items() if mark in state]
    if len(found) != 1:
        raise CheckpointError(
            f"not a DiT, PixArt-α or FLUX checkpoint in its original layout: expected one of {listed(_FAMILIES)}, "
            f"found {len(found)} of them among {len(state)} tensors: {listed(state) or 'none'}"
        )
    return found[0]


def _refuse(options: Mapping[str, int | None]) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        raise OptionError(f"{listed(given)}: not an option of a FLUX checkpoint, whose tensors tell it")
