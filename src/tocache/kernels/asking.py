"""Whether the host may look at the numbers of a tensor: an accelerator's it would have to wait for."""

from __future__ import annotations

import torch

ASKED: tuple[str, ...] = ("cpu",)
"""Types of devices whose numbers cost nothing to look at."""


def may_ask(tensor: torch.Tensor) -> bool:
    """Whether the numbers of `tensor` are there, and at once: those of a trace are not there at all."""
    return tensor.device.type in ASKED and type(tensor) is torch.Tensor
