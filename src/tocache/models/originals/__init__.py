"""Checkpoints in their authors' own layout (DiT `.pt`, PixArt-α `.pth`, FLUX), loaded into diffusers' classes."""

from tocache.models.originals.dit import convert_dit, exact_timestep_embedding
from tocache.models.originals.flux import convert_flux
from tocache.models.originals.loading import load_original
from tocache.models.originals.pixart import convert_pixart, negative_caption

__all__ = [
    "convert_dit",
    "convert_flux",
    "convert_pixart",
    "exact_timestep_embedding",
    "load_original",
    "negative_caption",
]
