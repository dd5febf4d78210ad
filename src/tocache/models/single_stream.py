"""Single-stream blocks: attention and MLP side by side on the joined stream, into one output projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.engine.wiring import Fused
from tocache.models.costs import OWN, attention_cost, token_cost
from tocache.plan.anatomy import PARALLEL, SELF_ATTENTION, Cost, Pass, Site


@dataclass(frozen=True)
class SingleStream:
    """Such a block as FLUX names its parts, on the tokens of `group`; `outputs` as in `Fused`."""

    group: str = "joint"
    outputs: tuple[str, ...] = ()

    def layer(self, path: str) -> Fused:
        """That of the block at `path`."""
        return Fused(
            attention_site=f"{path}.attn",
            site=path,
            norm=f"{path}.norm",
            mlp_in=f"{path}.proj_mlp",
            attention=f"{path}.attn",
            mlp_out=f"{path}.proj_out",
            group=self.group,
            outputs=self.outputs,
        )

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        attention = Site(f"{path}.attn", SELF_ATTENTION, self.group, **place, rows=False)
        inside = (attention.name,)
        return [attention, Site(path, PARALLEL, self.group, **place, rows=True, self_map=attention.name, inside=inside)]

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        rows, tokens = shape.rows, shape.tokens[self.group]
        attention = attention_cost(block.attn, rows, tokens, tokens, OWN[:3])
        return [attention, token_cost(rows, tokens, block.proj_mlp, block.proj_out)]
