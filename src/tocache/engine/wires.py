"""Which modules of a model are taken over, as the model is now: its layers, and the blocks of a plan's regions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tocache.engine.intercept import Call, Handler, intercept, plain_class, release
from tocache.engine.layers import layer_of
from tocache.engine.regions import BlockHandler, RegionLayer
from tocache.engine.visit import ModuleHandler
from tocache.engine.wiring import Conditioned, Family, TokenWise
from tocache.errors import AttachError
from tocache.plan.anatomy import REGION, TURNS
from tocache.plan.plan import Plan


@dataclass(frozen=True)
class Callers:
    """Who takes the call of a module: of a layer, of one that is `conditioned` (by its path), of a region's block."""

    module: Callable[[ModuleHandler, Call, tuple[Any, ...], dict[str, Any]], Any]
    conditioned: Callable[[str, Call, tuple[Any, ...], dict[str, Any]], Any]
    block: Callable[[BlockHandler, Call, tuple[Any, ...], dict[str, Any]], Any]


class Wires:
    """Takes over what the family names in each of `transformers`, which are built alike.

    Raises AttachError where a module is not where the family says it is, or one of the transformers is built otherwise.
    """

    def __init__(
        self,
        family: Family,
        transformers: Sequence[torch.nn.Module],
        conditioned: Conditioned | None,
        callers: Callers,
    ) -> None:
        self.family = family
        self.transformers = transformers
        self.conditioned = conditioned
        self.callers = callers
        self._wired: dict[tuple[int, str], torch.nn.Module] = {}  # by the transformer's number and the path
        self._handlers: dict[str, Handler]
        self._regions: dict[str, Handler] = {}
        self._chunkable: dict[str, str]  # block path → site whose module it may call in chunks
        self._find_handlers()

    def put_up(self) -> None:
        """Takes over the modules that stand at the wired paths now: a LoRA may have put others there."""
        wanted = self._handlers | self._regions
        for (number, path), module in list(self._wired.items()):
            if path not in wanted or self._module(path, number) is not module:
                release(self._wired.pop((number, path)))
        for number in range(len(self.transformers)):
            for path, handler in wanted.items():
                if (number, path) not in self._wired:
                    module = self._wired[number, path] = self._module(path, number)
                    intercept(module, {"__call__": handler})

    def take_down(self) -> None:
        for module in self._wired.values():
            release(module)
        self._wired.clear()

    def follow(self) -> bool:
        """Takes over the sites that the model has now; whether these are other ones than before."""
        changed = self.family.layers(self.transformers[0]) != self._layers
        if changed:  # an IP-Adapter came or went: attentions return more
            self.take_down()
            self._find_handlers()
        self.put_up()
        return changed

    def follow_regions(self, plan: Plan) -> None:
        """Takes over the blocks of the plan's regions, and leaves those of the plan before."""
        regions = [site for site in plan.sites if site.kind == REGION]
        if not regions and not self._regions:
            return
        stacks = {stack.path: stack for stack in self.family.stacks(self.transformers[0])}
        for number, path in list(self._wired):
            if path in self._regions:
                release(self._wired.pop((number, path)))
        self._regions = {}
        for site in regions:
            numbers = range(site.block, site.block + site.span)
            within = [(stacks[stack], f"{stack}.{b}") for b in numbers for stack in site.stack.split(TURNS)]
            paths = [path for _, path in within]
            layer = RegionLayer(site, [(stack, self._module(path)) for stack, path in within])
            for position, path in enumerate(paths):
                self._regions[path] = partial(self.callers.block, layer.handler(position))
        self.put_up()

    def chunked(self) -> Iterator[str]:
        """The sites whose module is called with part of its tokens at a time."""
        for path, site in self._chunkable.items():
            if getattr(self._module(path), "_chunk_size", None) is not None:
                yield site

    def _find_handlers(self) -> None:
        layers = self._layers = self.family.layers(self.transformers[0])
        self._handlers, self._chunkable = {}, {}
        for other in self.transformers[1:]:
            if self.family.layers(other) != layers:
                raise AttachError(f"the pipeline's two {plain_class(other).__name__} are not built alike")
        for wiring in layers:
            for path, handler in layer_of(wiring).handlers().items():
                self._module(path)
                self._handlers[path] = partial(self.callers.module, handler)
            if isinstance(wiring, TokenWise):
                self._chunkable[wiring.module.rpartition(".")[0]] = wiring.site
        for path in () if self.conditioned is None else self.conditioned.paths:
            self._module(path)
            self._handlers[path] = partial(self.callers.conditioned, path)

    def _module(self, path: str, number: int = 0) -> torch.nn.Module:
        try:
            return self.transformers[number].get_submodule(path)
        except AttributeError as error:
            name = plain_class(self.transformers[0]).__name__
            raise AttachError(
                f"{name} has no module {path!r}, where its family {self.family.name!r} says one is"
            ) from error
