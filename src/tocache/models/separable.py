"""Blocks of separate sub-layers, self-attention, attention to the text and MLP: what their families have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tocache.engine.wiring import Attention, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, width_of
from tocache.models.costs import attention_cost, token_cost
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, Anatomy, Cost, Pass, Site


@dataclass(frozen=True)
class Module:
    """A sub-layer of a block by the names of its modules.

    `norm` feeds it and nobody else; None where there is no such norm, or where its modulation is not the same for all
    tokens of a row.
    """

    name: str
    norm: str | None = None


class Separable(ModelFamily):
    """A family of one stack of blocks that call `attention`, `cross` (None: they have none) and `mlp` in this order.

    Attention is computed whole, as its queries carry positions; attention to the text and the MLP by token.
    """

    stack: ClassVar[str] = "transformer_blocks"
    attention: ClassVar[Module]
    cross: ClassVar[Module | None] = None
    mlp: ClassVar[Module]
    notes: ClassVar[tuple[str, ...]] = ("norms, modulation and the text's key and value projections are not counted",)

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.get_submodule(self.stack))):
            path = f"{self.stack}.{b}"
            attention = f"{path}.{self.attention.name}"
            norms = () if self.attention.norm is None else (f"{path}.{self.attention.norm}",)
            layers.append(Attention((attention,), attention, norms, ("image",)))
            for part in self._by_token():
                norm = None if part.norm is None else f"{path}.{part.norm}"
                layers.append(TokenWise(f"{path}.{part.name}", f"{path}.{part.name}", norm))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(self.stack, ("hidden_states",)),)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        blocks, width = transformer.get_submodule(self.stack), width_of(transformer)
        sites: list[Site] = []
        for b in range(len(blocks)):
            path = f"{self.stack}.{b}"
            place: dict[str, Any] = {"group": "image", "stack": self.stack, "block": b, "depth": len(blocks)}
            place["width"] = width
            maps: dict[str, Any] = {"self_map": f"{path}.{self.attention.name}"}
            if self.cross is not None:
                maps["cross_map"] = f"{path}.{self.cross.name}"
            sites.append(Site(f"{path}.{self.attention.name}", SELF_ATTENTION, **place, rows=False))
            for part in self._by_token():
                kind = MLP if part is self.mlp else CROSS_ATTENTION
                sites.append(Site(f"{path}.{part.name}", kind, **place, rows=True, **maps))
        costs = self._costs(blocks[0], shape)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), costs * len(blocks), self.notes)

    def _by_token(self) -> tuple[Module, ...]:
        return (self.mlp,) if self.cross is None else (self.cross, self.mlp)

    def _costs(self, block: Any, shape: Pass) -> tuple[Cost, ...]:
        rows, tokens = shape.rows, shape.tokens["image"]
        costs = [attention_cost(block.get_submodule(self.attention.name), rows, tokens, tokens)]
        if self.cross is not None:
            cross = block.get_submodule(self.cross.name)
            whole = attention_cost(cross, rows, tokens, shape.context, ("to_q", "to_out"))
            costs.append(replace(whole, token=whole.full // tokens))
        return (*costs, token_cost(rows, tokens, block.get_submodule(self.mlp.name)))
