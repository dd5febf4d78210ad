"""The form that the autoencoders of the miniatures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def picture_autoencoder(widths: Sequence[int], **options: Any) -> dict[str, Any]:
    """Settings of diffusers' `AutoencoderKL` with one residual block on each level.

    Args:
        widths: channels of the levels; all but the last halve the sides.
        options: further settings, which come first.
    """
    settings: dict[str, Any] = {
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 1,
    }
    return settings | options
