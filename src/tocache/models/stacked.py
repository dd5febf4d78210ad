"""Families of stacks whose blocks are of known kinds: a family is left to say names, shapes and guidance."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from tocache.engine.wiring import Guidance, Layer, Stack
from tocache.models.base import ModelFamily, in_one_batch, in_two_passes, width_of
from tocache.plan.anatomy import Anatomy, Cost, Pass, Site


class Kind(Protocol):
    """How a block is built: the layers, sites and costs of the one at `path`."""

    def layers(self, path: str) -> list[Layer]:
        """Where its sites are, in running order."""
        ...

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Its sites, whose stack, number, depth and width are `place`."""
        ...

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site, read off the modules of `block`."""
        ...


@dataclass(frozen=True)
class Blocks:
    """A stack of such blocks: the streams each takes by these names and returns in this order.

    `inner` is the module of a block that holds its parts, where it is not the block itself.
    """

    stack: str
    kind: Kind
    streams: tuple[str, ...] = ("hidden_states",)
    inner: str = ""


class Stacked(ModelFamily):
    """A family of the stacks `stacked`, in running order; those that a transformer lacks are left out.

    `halves` is the order of the guidance halves where both run in one batch; where it is None each has a pass, the
    conditional one first, and `scale` is the argument that asks for them. `in_turns` says that the stacks run side by
    side: the first block of each, then the second of each.
    """

    stacked: ClassVar[tuple[Blocks, ...]]
    halves: ClassVar[str | None] = None
    scale: ClassVar[str] = "guidance_scale"
    in_turns: ClassVar[bool] = False
    notes: ClassVar[tuple[str, ...]] = ("norms and modulation are not counted",)

    @abstractmethod
    def usual(self, transformer: Any) -> Pass:
        """One row at the model's usual size."""

    def kind(self, blocks: Blocks, block: Any) -> Kind:
        """How `block` is built; families whose blocks differ within a stack look at it."""
        return blocks.kind

    def layers(self, transformer: Any) -> Sequence[Layer]:
        return [layer for _, path, _, kind in self._each(transformer) for layer in kind.layers(path)]

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return tuple(Stack(blocks.stack, blocks.streams) for blocks in self._present(transformer))

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        sites: list[Site] = []
        costs: list[Cost] = []
        width = width_of(transformer)
        for place, path, block, kind in self._each(transformer):
            sites += kind.sites(path, place | {"width": width})
            costs += kind.costs(block, shape)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), self.notes)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        rows, halves = (2 * pictures, self.halves) if guided and self.halves else (pictures, None)
        return replace(self.usual(transformer), rows=rows, halves=halves, itemsize=itemsize)

    def guides_in_two_passes(self, transformer: Any) -> bool:
        return self.halves is None and self.scale == "guidance_scale"

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, self.halves) if self.halves else in_two_passes(arguments, self.scale)

    def _present(self, transformer: Any) -> Iterator[Blocks]:
        return (blocks for blocks in self.stacked if len(getattr(transformer, blocks.stack, None) or ()))

    def _each(self, transformer: Any) -> list[tuple[dict[str, Any], str, Any, Kind]]:
        """Place, path, module and kind of each block, in running order."""
        found = list(self._stack_by_stack(transformer))
        return sorted(found, key=lambda block: int(block[0]["block"])) if self.in_turns else found

    def _stack_by_stack(self, transformer: Any) -> Iterator[tuple[dict[str, Any], str, Any, Kind]]:
        for blocks in self._present(transformer):
            stack = transformer.get_submodule(blocks.stack)
            for b, outer in enumerate(stack):
                path, block = f"{blocks.stack}.{b}", outer
                if blocks.inner:
                    path, block = f"{path}.{blocks.inner}", outer.get_submodule(blocks.inner)
                yield {"stack": blocks.stack, "block": b, "depth": len(stack)}, path, block, self.kind(blocks, block)
