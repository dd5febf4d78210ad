"""Pipelines around transformers of real size with random weights: schedulers, loops and calls are the published ones.

Text comes as embeddings, and pictures stay latents or pass a tiny autoencoder, so that nothing is downloaded and
nothing but the denoising loop takes time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from on_gpu.targets import Target
from tocache import opensora
from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline
from tocache.demo.random_video import random_video_pipeline
from tocache.models.architectures import ARCHITECTURES
from tocache.presets import preset_steps

_AROUND = {
    "dit": random_class_pipeline,
    "pixart": random_text_pipeline,
    "flux": random_flux_pipeline,
    "opensora": random_video_pipeline,
}
_TEXT = {"pixart": 120, "flux": 512}  # tokens, as the pipelines pad them


class Subject:
    """One target on one device: two pipelines over the same weights, and what they are called with."""

    def __init__(self, target: Target, device: str, dtype: torch.dtype, *, steps: int | None = None) -> None:
        self.target, self.device, self.dtype = target, torch.device(device), dtype
        self.steps = steps or preset_steps(target.preset)
        transformer = _random(target, self.device, dtype)
        self.plain, self.cached = _around(target, transformer), _around(target, _twin(transformer))

    def arguments(self) -> dict[str, Any]:
        """Of one call; the same noise each time."""
        generator = torch.Generator(self.device).manual_seed(0)
        return {
            **_conditions(self.target, self.plain.transformer.config, self.device, self.dtype),
            "num_inference_steps": self.steps,
            "generator": generator,
        }


def _random(target: Target, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Small weights, under which activations stay finite in half precision, made on the device."""
    name = ARCHITECTURES[target.architecture].transformer
    cls = getattr(diffusers, name, None) or getattr(opensora, name)
    with torch.device("meta"):
        model: torch.nn.Module = cls(**target.config)
    # not diffusers' own `to`, which warns of modules to be kept in float32 where there are none
    torch.nn.Module.to(model, dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.normal_(0, 0.02, generator=generator) if tensor.is_floating_point() else tensor.data.zero_()
    return model.requires_grad_(False)


def _twin(model: torch.nn.Module) -> torch.nn.Module:
    """The same modules once more, over the same weights: one is compiled or cached, the other is as it was."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def _around(target: Target, transformer: torch.nn.Module) -> Any:
    pipe = _AROUND[target.family]()
    pipe.set_progress_bar_config(disable=True)
    device, dtype = next(transformer.parameters()).device, next(transformer.parameters()).dtype
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            torch.nn.Module.to(part, device, dtype)
    pipe.transformer = transformer
    if target.family == "flux":
        pipe.default_sample_size = 8 if target.tiny else 128
    return pipe


def _conditions(target: Target, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What is drawn, at which size."""
    make: dict[str, Any] = {"device": device, "dtype": dtype}
    pictures = target.pictures
    if target.family == "dit":
        return {"class_labels": list(range(pictures)), "guidance_scale": 4.0, "output_type": "pt"}
    if target.family == "opensora":
        length = config["max_text_length"]
        small = {"height": 32, "width": 32, "num_frames": 17}
        size = small if target.tiny else {"resolution": "480p", "aspect_ratio": "9:16", "num_frames": "2s"}
        return {
            "prompt_embeds": torch.randn(pictures, length, config["caption_channels"], **make),
            "prompt_attention_mask": torch.ones(pictures, length, device=device, dtype=torch.int64),
            "output_type": "latent",
            **size,
        }
    length = 7 if target.tiny else _TEXT[target.family]
    if target.family == "flux":
        return {
            "prompt_embeds": torch.randn(pictures, length, config["joint_attention_dim"], **make),
            "pooled_prompt_embeds": torch.randn(pictures, config["pooled_projection_dim"], **make),
            "output_type": "latent",
        }
    text = torch.randn(pictures, length, config["caption_channels"], **make)
    mask = torch.ones(pictures, length, **make)
    return {
        "prompt_embeds": text,
        "prompt_attention_mask": mask,
        "negative_prompt": None,
        "negative_prompt_embeds": torch.randn_like(text),
        "negative_prompt_attention_mask": mask,
        "clean_caption": False,
        "use_resolution_binning": not target.tiny,
        "output_type": "latent",
    }
