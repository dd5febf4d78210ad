"""Blocks of separate sub-layers: self-attention, in some of them attention to the text, and an MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tocache.engine.wiring import Attention, Layer, TokenWise
from tocache.models.costs import OWN, attention_cost, cross_cost, linear_flops, token_cost
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, Cost, Pass, Site

CROSS_NOTES = ("norms, modulation and the text's key and value projections are not counted",)


@dataclass(frozen=True)
class Module:
    """A sub-layer of a block by the names of its modules.

    `norm` feeds it and nobody else; None where there is no such norm, or where its modulation is not the same for all
    tokens of a row.
    """

    name: str
    norm: str | None = None


@dataclass(frozen=True)
class Separable:
    """A block that calls `attention`, `cross` (None: it has none) and `mlp` in this order, on the tokens of `group`.

    Attention is computed whole, as its queries carry positions; the MLP by token, and so is attention to the text
    unless its queries are `rotated`, too. `outputs` are the groups that the attention returns one by one,
    where it does, and `projections` those of both attentions, in the order of queries, keys, values and output.

    `padded` says that shorter rows of a batch are padded: how many tokens of a row were computed would then depend on
    the longest, so the MLP computes all or none. Where padding joins other tokens, `counted` is the group of which
    budgets compute a share. `over` is the group of the attention's keys where these are not the tokens of `group`, and
    `kind` the attention's kind.
    """

    attention: Module
    mlp: Module
    cross: Module | None = None
    group: str = "image"
    outputs: tuple[str, ...] = ()
    rotated: bool = False
    padded: bool = False
    counted: str | None = None
    projections: tuple[str, ...] = OWN
    over: str | None = None
    kind: str = SELF_ATTENTION

    def layers(self, path: str) -> list[Layer]:
        """Those of the block at `path`."""
        attention = f"{path}.{self.attention.name}"
        norms = () if self.attention.norm is None else (f"{path}.{self.attention.norm}",)
        layers: list[Layer] = [Attention((attention,), attention, norms, (self.group,), outputs=self.outputs)]
        for part in self._parts():
            name, norm = f"{path}.{part.name}", None if part.norm is None else f"{path}.{part.norm}"
            if part is self.cross and self.rotated:
                layers.append(Attention((name,), name, () if norm is None else (norm,), (self.group,)))
            else:
                layers.append(TokenWise(name, name, norm))
        return layers

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        maps: dict[str, Any] = {"self_map": f"{path}.{self.attention.name}"}
        if self.cross is not None and not self.rotated:
            maps["cross_map"] = f"{path}.{self.cross.name}"
        sites = [Site(f"{path}.{self.attention.name}", self.kind, self.group, **place, rows=False)]
        for part in self._parts():
            kind = MLP if part is self.mlp else CROSS_ATTENTION
            by_token = not self.padded and not (part is self.cross and self.rotated)
            options = {"rows": True, "counted": self.counted, **maps} if by_token else {"rows": False}
            sites.append(Site(f"{path}.{part.name}", kind, self.group, **place, **options))
        return sites

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        rows, tokens = shape.rows, shape.tokens[self.group]
        attention = block.get_submodule(self.attention.name)
        keys = shape.tokens[self.over or self.group]
        costs = [attention_cost(attention, rows, tokens, keys, self.projections)]
        if self.cross is not None:
            cross = block.get_submodule(self.cross.name)
            by_token = cross_cost(cross, rows, tokens, shape.context, self.projections)
            projected = rows * shape.context * linear_flops(getattr(cross, name) for name in self.projections[1:3])
            whole = replace(by_token, full=by_token.full + projected, token=0)
            costs.append(whole if self.rotated else by_token)
        return [*costs, token_cost(rows, tokens, block.get_submodule(self.mlp.name))]

    def _parts(self) -> tuple[Module, ...]:
        return (self.mlp,) if self.cross is None else (self.cross, self.mlp)
