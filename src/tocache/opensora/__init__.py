"""Open-Sora 1.2 (Zheng et al. 2024, hpcaitech/Open-Sora v1.2) as a diffusers pipeline, which diffusers lacks.

Nothing of the cache is imported here: the transformer, the autoencoder, the scheduler and the pipeline stand alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tocache.opensora.conditions import FrameCondition
    from tocache.opensora.original import load_original_transformer, load_original_vae
    from tocache.opensora.pipeline import OpenSoraPipeline
    from tocache.opensora.pipeline_output import OpenSoraPipelineOutput
    from tocache.opensora.scheduler import RFlowScheduler
    from tocache.opensora.sizes import ASPECT_RATIOS, DURATIONS, RESOLUTIONS, frame_count, latent_frames, pixel_size
    from tocache.opensora.transformer import STDiT3Transformer3DModel
    from tocache.opensora.vae import AutoencoderKLOpenSora

__all__ = [
    "ASPECT_RATIOS",
    "DURATIONS",
    "RESOLUTIONS",
    "AutoencoderKLOpenSora",
    "FrameCondition",
    "OpenSoraPipeline",
    "OpenSoraPipelineOutput",
    "RFlowScheduler",
    "STDiT3Transformer3DModel",
    "frame_count",
    "latent_frames",
    "load_original_transformer",
    "load_original_vae",
    "pixel_size",
]

_HOMES = {
    "conditions": ("FrameCondition",),
    "original": ("load_original_transformer", "load_original_vae"),
    "pipeline": ("OpenSoraPipeline",),
    "pipeline_output": ("OpenSoraPipelineOutput",),
    "scheduler": ("RFlowScheduler",),
    "sizes": ("ASPECT_RATIOS", "DURATIONS", "RESOLUTIONS", "frame_count", "latent_frames", "pixel_size"),
    "transformer": ("STDiT3Transformer3DModel",),
    "vae": ("AutoencoderKLOpenSora",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"tocache.opensora.{module}"), name)
            return value
    raise AttributeError(f"module 'tocache.opensora' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
