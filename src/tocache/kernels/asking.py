"""Numbers between host and device, so that the host waits for none: whether it may look, and how it sends."""

from __future__ import annotations

import torch

ASKED: tuple[str, ...] = ("cpu",)
"""Types of devices whose numbers cost nothing to look at."""


def may_ask(tensor: torch.Tensor) -> bool:
    """Whether the numbers of `tensor` are there, and at once: those of a trace are not there at all."""
    return tensor.device.type in ASKED and type(tensor) is torch.Tensor


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor`, which lies on the host, on `device`."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
