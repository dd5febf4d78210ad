"""Single-stream blocks of a wired model, in which attention and MLP share one output projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tocache.engine.pass_run import PassRun
from tocache.engine.probe import Probe, Seen
from tocache.engine.reading import read_self_attention
from tocache.engine.visit import Again, ModuleHandler, Visit, in_parts
from tocache.engine.wiring import Attention, Fused, Merged
from tocache.kernels import gather_rows
from tocache.plan.plan import ALL


class ParallelLayer:
    """A single-stream block: its fresh tokens pass norm, MLP and output projection, beside their cached attention."""

    def __init__(self, wiring: Fused | Merged, attention: str) -> None:
        self.site, self.attention_site = wiring.site, wiring.attention_site
        self.as_attention = Attention((wiring.attention_site,), attention, (wiring.norm,), (wiring.group,))
        self.visit: Visit | None = None
        self.attends = False

    def norm(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit = self.visit = Visit(run, self.site, x)
        served = visit.amount == 0
        self.attends = not served and run.amount(run.index[self.attention_site]) == ALL
        if self.attends and visit.index is not None:  # the attention that the fresh tokens need is not there
            visit.index, visit.amount = None, ALL
            run.overrule(visit.site)
        return again(visit.take_for_norm(x) if run.alike else x)


class FusedLayer(ParallelLayer):
    """Such a block that calls the modules of both one by one."""

    def __init__(self, wiring: Fused) -> None:
        super().__init__(wiring, wiring.attention)
        self.wiring = wiring

    def handlers(self) -> Mapping[str, ModuleHandler]:
        wiring = self.wiring
        return {
            wiring.norm: self.norm,
            wiring.mlp_in: self.mlp_in,
            wiring.attention: self.attention,
            wiring.mlp_out: self.mlp_out,
        }

    def mlp_in(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        assert self.visit is not None
        if self.visit.amount == 0:  # nobody reads it, and at small batches reading the weights is what costs
            return x.new_empty(x.shape[0], 1, 1)
        return again(x if run.alike else self.visit.take(x))

    def attention(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, site = self.visit, run.index[self.attention_site]
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

    def mlp_out(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, self.visit = self.visit, None
        assert visit is not None
        return visit.finish(lambda: again(x))


class MergedLayer(ParallelLayer):
    """Such a block in one module, in which the attention itself is all that can be told apart from the MLP."""

    def __init__(self, wiring: Merged) -> None:
        super().__init__(wiring, wiring.module)
        self.wiring = wiring

    def handlers(self) -> Mapping[str, ModuleHandler]:
        return {self.wiring.norm: self.norm, self.wiring.module: self.module}

    def module(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        visit, self.visit = self.visit, None
        assert visit is not None
        if self.attends:
            return visit.finish(lambda: read_self_attention(run, self.as_attention, lambda: self._keep(run, x, again)))
        if not run.alike:
            x = visit.take(x)
        return visit.finish(lambda: self._beside(run, visit.index, x, again))

    def _keep(self, run: PassRun, x: torch.Tensor, again: Again) -> Any:
        """Runs the module on all tokens, and keeps what its attention gives."""

        def look(seen: Seen) -> torch.Tensor | None:
            if not seen.plain or seen.query.shape[2] != x.shape[1]:  # not the attention of the block's own tokens
                return None
            y = seen.attend()  # (rows, heads, tokens, channels)
            given = run.write(run.index[self.attention_site], y.transpose(1, 2).flatten(2))
            return _by_head(given, y.shape[1])

        with Probe(look):
            return again(x)

    def _beside(self, run: PassRun, index: torch.Tensor | None, x: torch.Tensor, again: Again) -> Any:
        """Runs the module on the tokens `x` (None as `index`: all), beside the attention that is kept of them."""
        y = run.serve(run.index[self.attention_site])
        rows = y if index is None else gather_rows(y, index)

        def look(seen: Seen) -> torch.Tensor:
            return _by_head(rows, seen.query.shape[1])

        with Probe(look):
            return again(x, **{self.wiring.positions: None})  # they are of all tokens, and nobody attends


def _by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)  # -> (rows, heads, tokens, channels)
