"""Draws batches: with a pipeline and its cache, or with anything else that has these two methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from tocache.api import enable, report
from tocache.errors import TocacheError, UnknownNameError
from tocache.generation import fingerprint, load_pipeline, makes_videos
from tocache.generation.batches import arguments_for, pictures_of
from tocache.machine import device_name, installed_version
from tocache.sampling.drawn import Pixels
from tocache.sampling.prompts import Prompt
from tocache.sampling.settings import Settings

_VERSIONS = ("tocache", "torch", "diffusers", "transformers", "numpy", "pillow")  # what bits may change with
_NOT_FINITE = "the model's picture holds numbers that are not finite"


class Drawer(Protocol):
    """What a worker holds. It is made where it draws, and never sent anywhere."""

    fps: float | None
    """Frames per second, where it draws videos."""

    def about(self) -> Mapping[str, Any]:
        """JSON values that the bits of its pictures depend on: hardware, versions, weights."""

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Sequence[Pixels | str]:
        """One picture or video per prompt, from the seed beside it; a string says why there is none.

        Raises what the pipeline raises.
        """


class PipelineDrawer:
    """A diffusers pipeline with a cache enabled. Raises what `load_pipeline` and `enable` raise."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        # kernels of cuDNN that add up in an order of their own each time would change bits
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.pipe = load_pipeline(settings.model, device=settings.device, dtype=settings.dtype)
        enable(self.pipe, settings.method, storage=settings.storage, offload=settings.offload)
        self.fps = 24.0 if makes_videos(self.pipe) else None
        if self.fps is not None:
            arguments = arguments_for(self.pipe, ("",), (0,), settings.call())
            self.fps = float(arguments.get("fps", self.fps))

    def about(self) -> Mapping[str, Any]:
        device = torch.device(self.pipe.device)
        return {
            "hardware": device_name(device),  # of a CPU with the number of threads
            "dtype": str(self.pipe.transformer.dtype).removeprefix("torch."),
            "method": report(self.pipe).method,
            "weights": fingerprint(self.settings.model),
            **{f"version of {name}": installed_version(name) for name in _VERSIONS},
        }

    def draw(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Sequence[Pixels | str]:
        arguments = arguments_for(self.pipe, prompts, seeds, self.settings.call())
        drawn = pictures_of(self.pipe(**arguments))  # (B, 3, H, W) or (B, F, 3, H, W)
        finite = drawn.flatten(1).isfinite().all(dim=1).tolist()
        channels_last = (drawn.nan_to_num() * 255).round().to(torch.uint8).movedim(-3, -1)
        pixels = channels_last.contiguous().numpy()
        return [picture if sound else _NOT_FINITE for picture, sound in zip(pixels, finite, strict=True)]


def fatal(error: BaseException) -> bool:
    """Whether an error is none of a single prompt: memory, the device, or a setting that cannot be."""
    if isinstance(error, UnknownNameError):
        return False  # a class that does not exist
    return isinstance(error, (MemoryError, TocacheError, torch.OutOfMemoryError, torch.AcceleratorError))
