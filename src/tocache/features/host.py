"""The host's memory as a place for features, with copies that run beside the computation where there is a GPU.

On a GPU a stream of its own moves the features, from and to pinned memory. The two streams wait for each other on the
device alone: the host never blocks. Elsewhere the same copies are made at once, so that what is held where can be
tested on any machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tocache.features.packed import Packed


@dataclass(slots=True)
class Arriving:
    """A feature that is on its way to the device."""

    packed: Packed
    ready: torch.cuda.Event | None

    def take(self) -> Packed:
        """The feature, for the work that is queued from now on."""
        if self.ready is not None:
            torch.cuda.current_stream(self.packed.device).wait_event(self.ready)
        return self.packed


class HostMemory:
    """Sends features to the host and fetches them back.

    `pending` device copies at most wait to be sent: where the bus is slower than the model, the model waits, and the
    device does not fill up.
    """

    def __init__(self, pending: int) -> None:
        self._limit = pending
        self._pending: deque[Arriving] = deque()
        self._stream: torch.cuda.Stream | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes on the device that wait to be sent."""
        return sum(sent.packed.nbytes for sent in self._pending)

    def send(self, packed: Packed, into: Packed | None) -> Packed:
        """The copy of `packed` on the host, written over `into` where that has the same form."""
        host = into if into is not None and _can_hold(into, packed) else _like(packed, _on_host)
        self._pending.append(Arriving(packed, self._copy(packed, host)))
        while len(self._pending) > self._limit:
            self._pending.popleft().take()
        return host

    def fetch(self, host: Packed, device: torch.device) -> Arriving:
        """A device copy of `host`, which may still be under way."""
        packed = _like(host, lambda tensor: torch.empty_like(tensor, device=device, pin_memory=False))
        return Arriving(packed, self._copy(host, packed))

    def drain(self) -> None:
        """Lets go of the device copies that wait to be sent."""
        while self._pending:
            self._pending.popleft().take()

    def _copy(self, source: Packed, target: Packed) -> torch.cuda.Event | None:
        device = source.device if source.device.type != "cpu" else target.device
        if device.type != "cuda":
            _fill(target, source)
            return None
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            _fill(target, source)
            for tensor in (*source.tensors(), *target.tensors()):
                if tensor.is_cuda:  # it was allocated for the other stream, which may let go of it first
                    tensor.record_stream(self._stream)
        sent: torch.cuda.Event = self._stream.record_event()
        return sent


def _fill(target: Packed, source: Packed) -> None:
    for to, of in zip(target.tensors(), source.tensors(), strict=True):
        to.copy_(of, non_blocking=True)


def _like(packed: Packed, new: Callable[[torch.Tensor], torch.Tensor]) -> Packed:
    return Packed(new(packed.data), None if packed.scale is None else new(packed.scale), packed.dtype)


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)


def _can_hold(host: Packed, packed: Packed) -> bool:
    """Whether `host` may be written over by `packed`: inference tensors are for inference mode alone."""
    if host.data.is_inference() and not torch.is_inference_mode_enabled():
        return False
    return [(t.shape, t.dtype) for t in host.tensors()] == [(t.shape, t.dtype) for t in packed.tensors()]
