"""The rows of the table of targets: models of real size, and tiny ones of the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.models.architectures import ARCHITECTURES

# Sizes at which each class is still built as at its real size: two heads, one or two blocks of each stack.
_TINY: dict[str, dict[str, Any]] = {
    "dit": {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "sample_size": 8},
    "pixart": {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "cross_attention_dim": 32,
        "caption_channels": 24,
        "sample_size": 8,
    },
    "flux": {
        "num_layers": 1,
        "num_single_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "axes_dims_rope": (4, 6, 6),
        "joint_attention_dim": 24,
        "pooled_projection_dim": 24,
        "in_channels": 16,
    },
    "opensora": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "caption_channels": 24,
        "max_text_length": 9,
    },
}


@dataclass(frozen=True)
class Target:
    """One row: a model, its batch and preset, and what is asked of the clock.

    multiple  tokens to whose multiples amounts are raised in compiled steps, at a few percent of the FLOPs
    least     of the realised speed-up ÷ the FLOPs speed-up of the denoising loop
    """

    name: str
    architecture: str
    preset: str
    pictures: int
    multiple: int
    least: float
    tiny: bool = False

    @property
    def family(self) -> str:
        return ARCHITECTURES[self.architecture].family

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the transformer."""
        return {**ARCHITECTURES[self.architecture].config, **(_TINY[self.family] if self.tiny else {})}


_ROWS = (
    ("pixart-1024", "pixart-xl-2-1024", "paper-r70", 1, 64, 0.95),
    ("flux-1024", "flux-dev-1024", "paper-n4", 1, 16, 0.95),
    ("opensora-480p-2s", "opensora-1.2-480p-2s", "paper-r85-video", 1, 16, 0.95),
    ("pixart-512", "pixart-xl-2-512", "paper-r70", 1, 32, 0.92),
    ("dit-512", "dit-xl-2-512", "paper-ddim50", 1, 32, 0.92),
    ("dit-256-8", "dit-xl-2-256", "paper-ddim50", 4, 16, 0.90),
    ("dit-256-2", "dit-xl-2-256", "paper-ddim50", 1, 16, 0.80),
)
ROWS: tuple[Target, ...] = tuple(Target(*row) for row in _ROWS)
"""In the table's order; the batch of DiT counts both guidance halves, as its name does."""
