"""Latents of the world's pictures, made once and kept in files: encoding one costs as much as learning from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from tocache.machine import multiplies_bfloat16

_BATCH = 32
_SHARD = 4096


def cached_latents(
    folder: Path,
    name: str,
    count: int,
    pictures: Callable[[int, int], tuple[Tensor, Tensor]],
    encode: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Latents (count, channels, …) in float16, and what `pictures` says of each, from `folder` or made now.

    Args:
        name: of the files; other pictures or another autoencoder need another name or folder.
        pictures: gives, for a first number and how many, pictures in [-1, 1] and an integer tensor of labels.
        encode: makes latents of a batch of these pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latents, labels = [], []
    firsts = range(0, count, _SHARD)
    for first in track(firsts, f"latents {name}", console=Console(stderr=True), transient=True):
        path = folder / f"{name}-{first}.safetensors"
        number = min(_SHARD, count - first)
        shard = load_file(path) if path.exists() else {}
        if not shard or len(shard["labels"]) < number:  # none, or the last and shorter one of a run with fewer pictures
            shard = _encoded(first, number, pictures, encode)
            save_file(shard, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        latents.append(shard["latents"])
        labels.append(shard["labels"])
    return torch.cat(latents)[:count], torch.cat(labels)[:count]


@torch.inference_mode()
def _encoded(
    first: int,
    number: int,
    pictures: Callable[[int, int], tuple[Tensor, Tensor]],
    encode: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    latents, labels = [], []
    for start in range(first, first + number, _BATCH):
        x, label = pictures(start, min(_BATCH, first + number - start))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=multiplies_bfloat16(x.device)):
            latents.append(encode(x).half().cpu())
        labels.append(label.cpu())
    return {"latents": torch.cat(latents).contiguous(), "labels": torch.cat(labels).contiguous()}
