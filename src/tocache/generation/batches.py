"""Many pictures in one call, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tocache.models.architectures import call_arguments


def arguments_for(
    pipe: Any, prompts: Sequence[str | int], seeds: Sequence[int], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of one call that draws all of `prompts` as tensors, each from the seed beside it.

    options   steps, guidance and size, as in `call_arguments`, whose errors it raises
    """
    single = [call_arguments(pipe, prompt, **options) for prompt in prompts]
    arguments = dict(single[0])
    if "class_labels" in arguments:
        arguments["class_labels"] = [label for one in single for label in one["class_labels"]]
    else:
        arguments["prompt"] = [one["prompt"] for one in single]
    # on the CPU, so that a seed means the same on every device
    arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    return arguments | {"output_type": "pt"}


def pictures_of(output: Any) -> Tensor:
    """What a pipeline drew, float32 on the CPU in [0, 1]: (B, 3, H, W), videos (B, F, 3, H, W)."""
    drawn = output.frames if hasattr(output, "frames") else output.images
    pictures = torch.as_tensor(drawn).detach().float().cpu()
    # DiTPipeline answers output_type="pt" with an array before diffusers 0.41: channels come last
    pictures = pictures if pictures.shape[-3] == 3 else pictures.movedim(-1, -3)
    return pictures.clamp(0, 1)
