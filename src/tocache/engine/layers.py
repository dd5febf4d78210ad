"""The sub-layers of a wired model: each asks the run how many tokens to compute, and serves the rest.

Handlers get `x`, the module's first argument, and `again`, which calls the module with another one in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tocache.engine.pass_run import PassRun
from tocache.engine.reading import attend_rows, read_cross_attention, read_self_attention
from tocache.engine.wiring import Attention, Fused, TokenWise
from tocache.kernels import gather_rows
from tocache.plan.plan import ALL

Again = Callable[[torch.Tensor], Any]
ModuleHandler = Callable[[PassRun, torch.Tensor, Again], Any]


class Visit:
    """One site in one pass: what it computes, decided where its tokens are first seen."""

    __slots__ = ("amount", "index", "run", "site")

    def __init__(self, run: PassRun, name: str, x: torch.Tensor) -> None:
        self.run, self.site = run, run.index[name]
        self.amount = run.amount(self.site)
        self.index = run.choose(self.site, x, self.amount) if self.amount > 0 else None

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """What of `x` (rows, tokens, width) has to be computed: all, the fresh tokens, or one that nobody reads."""
        if self.amount == ALL:
            return x
        return x[:, :1] if self.index is None else gather_rows(x, self.index)

    def finish(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The site's output (rows, tokens, width); `compute` runs the module on what `take` gave."""
        if self.amount == ALL:
            return self.run.write(self.site, compute())
        if self.index is None:
            return self.run.serve(self.site)
        return self.run.blend(self.site, compute(), self.index)


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
        return again(self.visit.take(x))

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> torch.Tensor:
        visit, self.visit = self.visit, None
        if visit is None or visit.run is not run:  # the norm was not called, or in a pass that raised before the module
            visit = Visit(run, self.wiring.site, x)
            x = visit.take(x)
        site, index = visit.site, visit.index
        if run.reads_map(site):
            return visit.finish(lambda: read_cross_attention(run, site, lambda: again(x), index))
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
        if self.wiring.outputs:
            return self._parts(run, sites[0], amounts[0], lambda: again(x))
        if ALL not in amounts:
            served = (*(run.serve(i) for i in sites), *(None,) * unread)
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

    def _parts(self, run: PassRun, site: int, amount: int, compute: Callable[[], Any]) -> tuple[torch.Tensor, ...]:
        if amount != ALL:
            return in_parts(run, run.serve(site), self.wiring.outputs)
        parts: tuple[torch.Tensor, ...] = read_self_attention(run, self.wiring, compute)
        joined = torch.cat(parts, dim=1)
        given = run.write(site, joined)
        return parts if given is joined else in_parts(run, given, self.wiring.outputs)

    def _asked(self, run: PassRun) -> list[int]:
        return [run.amount(run.index[name]) for name in self.wiring.sites]


def in_parts(run: PassRun, joined: torch.Tensor, groups: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """A stream (rows, tokens of all groups, width) as one tensor for each of its groups."""
    return torch.split(joined, [run.tokens(group) for group in groups], dim=1)


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
        return again(self.visit.take(x))

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, self.visit = self.visit, None
        if visit is None or visit.run is not run:  # the norm was not called, or in a pass that raised before the module
            visit = Visit(run, self.wiring.sites[0], x)
            x = visit.take(x)
        if visit.index is None:
            return visit.finish(lambda: read_self_attention(run, self.wiring, lambda: again(x)))
        site, index = visit.site, visit.index
        return visit.finish(lambda: attend_rows(run, site, index, lambda: again(x)))


class FusedLayer:
    """A single-stream block: its fresh tokens pass norm, MLP and output projection, beside their cached attention."""

    def __init__(self, wiring: Fused) -> None:
        self.wiring = wiring
        self.as_attention = Attention((wiring.attention_site,), wiring.attention, (wiring.norm,), (wiring.group,))
        self.visit: Visit | None = None
        self.attends = False

    def handlers(self) -> Mapping[str, ModuleHandler]:
        wiring = self.wiring
        return {
            wiring.norm: self.norm,
            wiring.mlp_in: self.mlp_in,
            wiring.attention: self.attention,
            wiring.mlp_out: self.mlp_out,
        }

    def norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit = self.visit = Visit(run, self.wiring.site, x)
        served = visit.amount == 0
        self.attends = not served and run.amount(run.index[self.wiring.attention_site]) == ALL
        if self.attends and visit.index is not None:  # the attention that the fresh tokens need is not there
            visit.index, visit.amount = None, ALL
            run.overrule(visit.site)
        return again(visit.take(x) if run.alike else x)

    def mlp_in(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        assert self.visit is not None
        if self.visit.amount == 0:  # nobody reads it, and at small batches reading the weights is what costs
            return x.new_empty(x.shape[0], 1, 1)
        return again(x if run.alike else self.visit.take(x))

    def attention(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, site = self.visit, run.index[self.wiring.attention_site]
        assert visit is not None
        outputs = self.wiring.outputs
        if visit.amount == 0:
            return self._of_few(x.new_empty(x.shape[0], 1, x.shape[-1]))
        if self.attends:
            y = read_self_attention(run, self.as_attention, lambda: again(x))
            joined = torch.cat(y, dim=1) if outputs else y
            given = run.write(site, joined)
            if given is joined:
                return y
            return in_parts(run, given, outputs) if outputs else given
        y = run.serve(site)
        if visit.index is not None:
            return self._of_few(gather_rows(y, visit.index))
        return in_parts(run, y, outputs) if outputs else y

    def _of_few(self, rows: torch.Tensor) -> Any:
        """Some tokens as the block expects what attention returns: it joins parts again, and asks for no lengths."""
        return (rows, *(rows[:, :0] for _ in self.wiring.outputs[1:])) if self.wiring.outputs else rows

    def mlp_out(self, run: PassRun, x: torch.Tensor, again: Again) -> torch.Tensor:
        visit, self.visit = self.visit, None
        assert visit is not None
        return visit.finish(lambda: again(x))


SiteLayer = TokenWiseLayer | AttentionLayer | AttentionByTokenLayer | FusedLayer


def layer_of(wiring: TokenWise | Attention | Fused) -> SiteLayer:
    """The layer that executes `wiring`."""
    if isinstance(wiring, TokenWise):
        return TokenWiseLayer(wiring)
    if isinstance(wiring, Fused):
        return FusedLayer(wiring)
    return AttentionByTokenLayer(wiring) if wiring.by_token else AttentionLayer(wiring)
