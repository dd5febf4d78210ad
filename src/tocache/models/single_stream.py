"""Single-stream blocks: attention and MLP side by side on the joined stream, into one output projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.engine.wiring import Fused, Layer, Merged
from tocache.models.costs import OWN, attention_cost, token_cost
from tocache.plan.anatomy import PARALLEL, SELF_ATTENTION, Cost, Pass, Site


@dataclass(frozen=True)
class SingleStream:
    """Such a block as FLUX names its parts, on the tokens of `group`; `outputs` as in `Fused`.

    Where padding joins other tokens, `counted` is the group of which budgets compute a share.
    """

    group: str = "joint"
    outputs: tuple[str, ...] = ()
    counted: str | None = None

    def layers(self, path: str) -> list[Layer]:
        """That of the block at `path`."""
        fused = Fused(
            attention_site=f"{path}.attn",
            site=path,
            norm=f"{path}.norm",
            mlp_in=f"{path}.proj_mlp",
            attention=f"{path}.attn",
            mlp_out=f"{path}.proj_out",
            group=self.group,
            outputs=self.outputs,
        )
        return [fused]

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        return _sites(path, self.group, place, self.counted)

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        rows, tokens = shape.rows, shape.tokens[self.group]
        attention = attention_cost(block.attn, rows, tokens, tokens, OWN[:3])
        return [attention, token_cost(rows, tokens, block.proj_mlp, block.proj_out)]


@dataclass(frozen=True)
class MergedStream:
    """Such a block as FLUX.2 has it, in one module: `projections` are its first, for queries, keys, values and MLP, and
    its last.
    """

    group: str = "joint"
    projections: tuple[str, str] = ("to_qkv_mlp_proj", "to_out")

    def layers(self, path: str) -> list[Layer]:
        """That of the block at `path`."""
        return [Merged(f"{path}.attn", path, f"{path}.norm", f"{path}.attn", self.group)]

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        return _sites(path, self.group, place)

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site; fresh tokens pass the whole first projection."""
        rows, tokens, width = shape.rows, shape.tokens[self.group], int(block.attn.inner_dim)
        first, last = (block.attn.get_submodule(name) for name in self.projections)
        products = rows * tokens**2 * width
        attention = Cost(full=4 * products, token=0, scores=2 * products, moved=4 * rows * width)
        return [attention, token_cost(rows, tokens, first, last)]


def _sites(path: str, group: str, place: Mapping[str, Any], counted: str | None = None) -> list[Site]:
    attention = Site(f"{path}.attn", SELF_ATTENTION, group, **place, rows=False)
    options: dict[str, Any] = {"self_map": attention.name, "inside": (attention.name,), "counted": counted}
    return [attention, Site(path, PARALLEL, group, **place, rows=True, **options)]
