"""Double-stream blocks: image and text attend together, then each has an MLP of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.engine.wiring import Attention, Layer, TokenWise
from tocache.models.costs import ADDED, attention_cost, token_cost
from tocache.plan.anatomy import MLP, SELF_ATTENTION, Cost, Pass, Site


@dataclass(frozen=True)
class DoubleStream:
    """What the parts of such a block are called, the image's first, and in which order its keys stand.

    `norms` feed the attention and nobody else. `padded` says that shorter texts of a batch are padded: how many tokens
    of a text were computed would then depend on the longest, so its MLP computes all or none.
    """

    norms: tuple[str, ...] = ("norm1", "norm1_context")
    mlp_norms: tuple[str, str] = ("norm2", "norm2_context")
    mlps: tuple[str, str] = ("ff", "ff_context")
    keys: tuple[str, str] = ("text", "image")
    padded: bool = False
    attention: str = "attn"

    def layers(self, path: str, *, last: bool = False) -> list[Layer]:
        """Those of the block at `path`; a `last` one returns no text."""
        attention = f"{path}.{self.attention}"
        text = [] if last else [f"{attention}[text]"]
        norms = tuple(f"{path}.{norm}" for norm in self.norms)
        sites = (f"{attention}[image]", *text)
        layers: list[Layer] = [Attention(sites, attention, norms, self.keys, unread=2 - len(sites))]
        for mlp, norm in list(zip(self.mlps, self.mlp_norms, strict=True))[: len(sites)]:
            layers.append(TokenWise(f"{path}.{mlp}", f"{path}.{mlp}", f"{path}.{norm}"))
        return layers

    def sites(self, path: str, place: Mapping[str, Any], *, last: bool = False) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        groups = ("image",) if last else ("image", "text")
        attention = f"{path}.{self.attention}"
        sites = [Site(f"{attention}[{group}]", SELF_ATTENTION, group, **place, rows=False) for group in groups]
        for group, mlp in zip(groups, self.mlps, strict=False):
            rows = group == "image" or not self.padded
            sites.append(Site(f"{path}.{mlp}", MLP, group, **place, rows=rows, self_map=f"{attention}[{group}]"))
        return sites

    def costs(self, block: Any, shape: Pass, *, last: bool = False) -> list[Cost]:
        """One for each site; a block that returns no text attends with it all the same."""
        rows, image, text, joint = shape.rows, shape.tokens["image"], shape.tokens["text"], shape.tokens["joint"]
        attention = block.get_submodule(self.attention)
        own = attention_cost(attention, rows, image, joint)
        added = attention_cost(attention, rows, text, joint, ADDED[:3] if last else ADDED)
        mlps = [token_cost(rows, image, block.get_submodule(self.mlps[0]))]
        if last:
            both = Cost(full=own.full + added.full, token=0, scores=own.scores + added.scores)
            return [both, *mlps]
        return [own, added, *mlps, token_cost(rows, text, block.get_submodule(self.mlps[1]))]


def joint_tokens(image: int, text: int) -> dict[str, int]:
    """Tokens by group, where both streams attend together."""
    return {"image": image, "text": text, "joint": image + text}
