"""Where cached tensors lie under CUDA graphs: what a graph was recorded with must be at the same address again.

A recorded graph writes over its outputs when it runs again, and reads its inputs where they lay when it was recorded.
So what a pass adds to the cache is copied out of the graph into a buffer of its own place in the cache, which is the
same in each step and in the next run. The buffers are marked as static, so that no graph copies them again, and those
that are written to in place do not rule out recording.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from tocache.engine.graph_state import Structure

MARK = "_dynamo_static_input_type"  # what torch._dynamo.mark_static_address sets; "unguarded": see `_buffer`


class StaticMemory:
    """The buffers of one transformer's graphs, kept until its graphs are dropped."""

    def __init__(self) -> None:
        self._buffers: dict[Hashable, list[torch.Tensor]] = {}

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer in buffers)

    def clear(self) -> None:
        self._buffers.clear()

    def place(
        self, number: int, structure: Structure, sources: Sequence[tuple[bool, int]],
        cached: Sequence[torch.Tensor], new: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:  # fmt: skip
        """The tensors of pass `number`'s cache after it, in the order of `structure`.

        `sources` as in `Graph`: those that `cached` had stay where they are, and those of `new` are copied.
        """
        taken = {cached[i].data_ptr() for old, i in sources if old}
        held = []
        for place, (old, i) in zip(places_of(structure), sources, strict=True):
            tensor = cached[i] if old else self._copied((number, place), new[i], taken)
            taken.add(tensor.data_ptr())
            held.append(tensor)
        return held

    def _copied(self, place: Hashable, tensor: torch.Tensor, taken: set[int]) -> torch.Tensor:
        """`tensor` in a buffer of `place` that is not `taken`: a forecast keeps several features of one site."""
        buffers = self._buffers.setdefault((place, tensor.shape, tensor.dtype, tensor.device), [])
        free = next((buffer for buffer in buffers if buffer.data_ptr() not in taken), None)
        if free is None:
            buffers.append(_buffer(tensor))
            return buffers[-1]
        return free.copy_(tensor)


def places_of(structure: Structure) -> list[Hashable]:
    """What each tensor of a structure is, in order; alike for all features of a site, which take turns."""
    named: dict[int, Hashable] = {}
    for i, features in enumerate(structure.kept):
        for _, data, scale, _ in features:
            named |= {data: ("data", i), scale: ("scale", i)}
    for i, scores in enumerate(structure.maps):
        named |= {number: ("map", i, name) for name, number in scores}
    for i, numbers in enumerate(structure.numbers):
        named |= {number: (("age", "drift", "keys", "values")[k], i) for k, number in enumerate(numbers)}
    named |= {number: ("chosen", key) for key, number in structure.chosen}
    named.pop(-1, None)
    return [named[number] for number in range(len(named))]


def _buffer(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of `tensor` that CUDA graphs take for static.

    Nothing is compiled anew where another buffer comes in its place; the graph is recorded again then. It is no
    inference tensor, for a later run outside of `inference_mode` writes into it, too.
    """
    with torch.inference_mode(False), torch.no_grad():
        buffer = torch.empty_like(tensor)
    buffer.copy_(tensor)
    setattr(buffer, MARK, "unguarded")
    return buffer
