"""Regions: spans of blocks whose residual (output − input) is one cached feature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from tocache.engine.intercept import Call, plain_class
from tocache.engine.pass_run import PassRun
from tocache.engine.wiring import Stack
from tocache.plan.anatomy import Site
from tocache.plan.plan import ALL

BlockHandler = Callable[[PassRun, Call, tuple[Any, ...], dict[str, Any]], Any]


class RegionLayer:
    """One region: while it is served its blocks do not run, and the last one adds the cached residual.

    `blocks` are in running order, each with the stack that it is of.
    """

    def __init__(self, site: Site, blocks: list[tuple[Stack, torch.nn.Module]]) -> None:
        self.name = site.name
        self.takes = [(inspect.signature(plain_class(block).forward), stack.streams) for stack, block in blocks]
        self.last = len(blocks) - 1
        self.served = False
        self.before: list[torch.Tensor] = []

    def handler(self, position: int) -> BlockHandler:
        """The handler of the region's block number `position`."""

        def handle(run: PassRun, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return self._block(position, run, call, args, kwargs)

        return handle

    def _block(self, position: int, run: PassRun, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        i = run.index[self.name]
        if position == 0:
            self.served = run.amount(i) != ALL
            self.before = self._inputs(position, args, kwargs)
        if not self.served:
            output = call(*args, **kwargs)
            return self._remember(run, i, output) if position == self.last else output
        streams = self._inputs(position, args, kwargs)
        if position == self.last:
            # not onto what this block was given: what others add between the blocks (a ControlNet's residuals) is in
            # the cached residual already
            streams, self.before = self.before, []
            lengths = [stream.shape[1] for stream in streams]
            residual = torch.split(run.serve(i), lengths, dim=1)
            streams = [stream + part for stream, part in zip(streams, residual, strict=True)]
        return tuple(streams) if len(streams) > 1 else streams[0]

    def _remember(self, run: PassRun, i: int, output: Any) -> Any:
        after = output if isinstance(output, tuple) else (output,)
        # a block that drops a stream at the end hands on nothing that somebody reads
        pairs = zip(after, self.before, strict=True)
        residual = [b.new_zeros(b.shape) if a is None else a - b for a, b in pairs]
        before, self.before = self.before, []
        joined = torch.cat(residual, dim=1)  # (rows, tokens of all streams, width)
        given = run.write(i, joined)
        if given is joined:  # before + residual would be off by a rounding
            return output
        parts = torch.split(given, [stream.shape[1] for stream in before], dim=1)
        other = tuple(None if a is None else b + part for a, b, part in zip(after, before, parts, strict=True))
        return other if isinstance(output, tuple) else other[0]

    def _inputs(self, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        signature, streams = self.takes[position]
        arguments: Mapping[str, Any] = signature.bind(None, *args, **kwargs).arguments
        return [arguments[name] for name in streams]
