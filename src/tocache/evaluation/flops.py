"""Counts the FLOPs that a transformer really computes, with one counter for every cache.

`torch.utils.flop_counter` sees the matrix products, convolutions and attentions that torch is asked for, whoever asks.
So our methods, peers and the model without a cache are counted alike. Element-wise work is not counted, and neither is
what a Triton kernel does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tocache.models.costs import flop_counter


@dataclass
class Count:
    """What the transformer's forwards cost: FLOPs are 2 × multiply-accumulate."""

    flops: int = 0
    forwards: int = 0


@contextmanager
def counted(transformer: torch.nn.Module) -> Iterator[Count]:
    """Counts what `transformer` computes in the with-block; text encoder and autoencoder are left out.

    Slows every operation down: no clock should run beside it.
    """
    count = Count()
    with flop_counter() as counter:
        started: list[int] = []

        def before(*_: object) -> None:
            started.append(counter.get_total_flops())

        def after(*_: object) -> None:
            count.flops += counter.get_total_flops() - started.pop()
            count.forwards += 1

        hooks = [transformer.register_forward_pre_hook(before), transformer.register_forward_hook(after)]
        try:
            yield count
        finally:
            for hook in hooks:
                hook.remove()
