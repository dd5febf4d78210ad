"""The sub-layers of a wired model: each asks the run how many tokens to compute, and serves the rest.

Handlers get `x`, the module's first argument, and `again`, which calls the module with another one in its place, and
with others for those that it is given by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from tocache.engine.parallel import FusedLayer, MergedLayer
from tocache.engine.pass_run import PassRun
from tocache.engine.reading import attend_rows, read_cross_attention, read_self_attention
from tocache.engine.visit import Again, ModuleHandler, Visit, in_parts
from tocache.engine.wiring import Attention, Fused, Layer, Merged, Shared, TokenWise
from tocache.plan.plan import ALL


class TokenWiseLayer:
    """An MLP or a cross-attention, with the norm before it where that is its own."""

    def __init__(self, wiring: TokenWise) -> None:
        self.wiring = wiring
        self.visit: Visit | None = None  # from the norm to the module

    def handlers(self) -> Mapping[str, ModuleHandler]:
        norm = {} if self.wiring.norm is None else {self.wiring.norm: self.norm}
        return norm | {self.wiring.module: self.module}

    def norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        if not run.alike:
            return again(x)
        self.visit = Visit(run, self.wiring.site, x)
        return again(self.visit.take_for_norm(x))

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, self.visit = self.visit, None
        if visit is None or visit.run is not run:  # the norm was not called, or in a pass that raised before the module
            visit = Visit(run, self.wiring.site, x)
            x = visit.take(x)
        site, index = visit.site, visit.index
        if run.reads_map(site):
            return visit.finish(lambda: read_cross_attention(run, site, lambda: again(x), index))
        return visit.finish(lambda: again(x))


class SharedLayer:
    """An MLP that is called once for each of several streams, each with a site and a norm of its own."""

    def __init__(self, wiring: Shared) -> None:
        self.wiring = wiring
        self.visits: list[Visit] = []  # of the norms that were called, until the module is
        self.run: PassRun | None = None  # the pass that `calls` counts
        self.calls = 0

    def handlers(self) -> Mapping[str, ModuleHandler]:
        pairs = zip(self.wiring.norms, self.wiring.sites, strict=False)
        return {norm: partial(self.norm, site) for norm, site in pairs} | {self.wiring.module: self.module}

    def norm(self, site: str, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        if site == self.wiring.sites[0]:  # a forward may be made again in the same pass, and the last one have raised
            self.run, self.calls, self.visits = run, -1, []
        if not run.alike:
            return again(x)
        visit = Visit(run, site, x)
        self.visits = [*(earlier for earlier in self.visits if earlier.run is run), visit]
        return again(visit.take_for_norm(x))

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        self.calls = self.calls + 1 if self.run is run else 0
        self.run = run
        site = self.wiring.sites[self.calls]
        visit = next((v for v in self.visits if v.run is run and v.site == run.index[site]), None)
        if visit is None:
            visit = Visit(run, site, x)
            x = visit.take(x)
        return visit.finish(lambda: again(x))


class AttentionLayer:
    """A self-attention: computed whole if any of its sites needs it, and served otherwise."""

    def __init__(self, wiring: Attention) -> None:
        self.wiring = wiring
        self.amounts: list[int] = []  # by site, from the first norm, if there is one, to the module
        self.run: PassRun | None = None  # the pass that they are of

    def handlers(self) -> Mapping[str, ModuleHandler]:
        first = dict.fromkeys(self.wiring.norms[:1], self.first_norm)
        return dict.fromkeys(self.wiring.norms, self.norm) | first | {self.wiring.module: self.module}

    def first_norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        self.amounts, self.run = self._asked(run), run
        return self.norm(run, x, again)

    def norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        return again(x if ALL in self.amounts or not run.alike else x[:, :1])

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        amounts, self.run = self.amounts if self.run is run else self._asked(run), None
        sites, unread = [run.index[name] for name in self.wiring.sites], self.wiring.unread
        if self.wiring.folded:
            return self._folded(run, sites[0], amounts[0], x, again)
        if self.wiring.outputs:
            return self._parts(run, sites[0], amounts[0], lambda: again(x))
        if ALL not in amounts:
            served = (*(run.give(i) for i in sites), *(None,) * unread)
            return served if len(served) > 1 else served[0]
        y = read_self_attention(run, self.wiring, lambda: again(x))
        computed = y if isinstance(y, tuple) else (y,)
        if len(computed) != len(sites) + unread:
            run.give_up(f"{self.wiring.module} returned {len(computed)} tensors where {len(sites) + unread} are known")
            return y
        outputs = []
        for i, amount, value in zip(sites, amounts, computed, strict=False):
            outputs.append(run.write(i, value) if amount == ALL else run.serve(i))
        return (*outputs, *computed[len(sites) :]) if isinstance(y, tuple) else outputs[0]

    def _folded(self, run: PassRun, site: int, amount: int, x: torch.Tensor, again: Again) -> torch.Tensor:
        if amount == ALL:
            y: torch.Tensor = again(x)
            tokens = y.flatten(2).transpose(1, 2)  # (rows, channels, height, width) -> (rows, tokens, channels)
            given = run.write(site, tokens)
            if given is tokens:
                return y
        else:
            given = run.serve(site)
        return given.transpose(1, 2).reshape(given.shape[0], -1, *x.shape[2:])

    def _parts(self, run: PassRun, site: int, amount: int, compute: Callable[[], Any]) -> tuple[torch.Tensor, ...]:
        if amount != ALL:
            return in_parts(run, run.serve(site), self.wiring.outputs)
        parts: tuple[torch.Tensor, ...] = read_self_attention(run, self.wiring, compute)
        joined = torch.cat(parts, dim=1)
        given = run.write(site, joined)
        return parts if given is joined else in_parts(run, given, self.wiring.outputs)

    def _asked(self, run: PassRun) -> list[int]:
        return [run.amount(run.index[name]) for name in self.wiring.sites]


class AttentionByTokenLayer:
    """A self-attention of which single tokens can be computed: their queries over the keys and values of all tokens."""

    def __init__(self, wiring: Attention) -> None:
        self.wiring = wiring
        self.visit: Visit | None = None  # from the norm, if there is one, to the module

    def handlers(self) -> Mapping[str, ModuleHandler]:
        return dict.fromkeys(self.wiring.norms, self.norm) | {self.wiring.module: self.module}

    def norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        if not run.alike:
            return again(x)
        self.visit = Visit(run, self.wiring.sites[0], x)
        return again(self.visit.take_for_norm(x))

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, self.visit = self.visit, None
        if visit is None or visit.run is not run:  # the norm was not called, or in a pass that raised before the module
            visit = Visit(run, self.wiring.sites[0], x)
            x = visit.take(x)
        if visit.index is None:
            return visit.finish(lambda: read_self_attention(run, self.wiring, lambda: again(x)))
        site, index = visit.site, visit.index
        return visit.finish(lambda: attend_rows(run, site, index, lambda: again(x)))


SiteLayer = TokenWiseLayer | SharedLayer | AttentionLayer | AttentionByTokenLayer | FusedLayer | MergedLayer


def layer_of(wiring: Layer) -> SiteLayer:
    """The layer that executes `wiring`."""
    if isinstance(wiring, TokenWise):
        return TokenWiseLayer(wiring)
    if isinstance(wiring, Shared):
        return SharedLayer(wiring)
    if isinstance(wiring, Fused):
        return FusedLayer(wiring)
    if isinstance(wiring, Merged):
        return MergedLayer(wiring)
    return AttentionByTokenLayer(wiring) if wiring.by_token else AttentionLayer(wiring)
