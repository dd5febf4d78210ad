"""Thousands of pictures into a folder, on one device or many, whatever happens meanwhile; and what is made of them."""

from tocache.sampling.choose import choose_prompts, choose_workers
from tocache.sampling.pack import Packed, pack
from tocache.sampling.prompts import Prompts, read_classes, read_prompts
from tocache.sampling.sample import Sampled, State, sample
from tocache.sampling.settings import Settings

__all__ = [
    "Packed",
    "Prompts",
    "Sampled",
    "Settings",
    "State",
    "choose_prompts",
    "choose_workers",
    "pack",
    "read_classes",
    "read_prompts",
    "sample",
]
