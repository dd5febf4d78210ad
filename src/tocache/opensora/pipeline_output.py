"""What OpenSoraPipeline returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.utils import BaseOutput


@dataclass
class OpenSoraPipelineOutput(BaseOutput):  # type: ignore[misc]
    """`frames`: lists of PIL pictures, an array (B, T, H, W, 3), a tensor (B, T, 3, H, W), or latents (B, C, T, h, w).

    Pixels are 0 … 1 in arrays and tensors. An image is a video of one frame.
    """

    frames: Any
