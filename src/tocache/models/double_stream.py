"""Double-stream blocks: image and text attend together, then each has an MLP of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tocache.engine.wiring import Attention, Layer, Shared, TokenWise
from tocache.models.base import itemsize_of
from tocache.models.costs import ADDED, OWN, attention_cost, token_cost
from tocache.plan.anatomy import IMAGE_FIRST, MLP, SELF_ATTENTION, Cost, Pass, Site


@dataclass(frozen=True)
class DoubleStream:
    """What the parts of such a block are called, the image's first, and in which order its keys stand.

    `norms` feed the attention and nobody else. `padded` says that shorter texts of a batch are padded: how many tokens
    of a text were computed would then depend on the longest, so its MLP computes all or none. A `last` block returns no
    text. `own` and `added` are the attention's projections of image and text; one MLP that is named twice serves both.
    `scored` says that the attention is one call, whose map can rank tokens. `text_width` are the channels of the text,
    where they are not the image's.
    """

    norms: tuple[str, ...] = ("norm1", "norm1_context")
    mlp_norms: tuple[str, str] = ("norm2", "norm2_context")
    mlps: tuple[str, str] = ("ff", "ff_context")
    keys: tuple[str, str] = ("text", "image")
    padded: bool = False
    attention: str = "attn"
    last: bool = False
    own: tuple[str, ...] = OWN
    added: tuple[str, ...] = ADDED
    scored: bool = True
    text_width: int | None = None

    def layers(self, path: str) -> list[Layer]:
        """Those of the block at `path`."""
        attention = f"{path}.{self.attention}"
        text = [] if self.last else [f"{attention}[text]"]
        norms = tuple(f"{path}.{norm}" for norm in self.norms)
        sites = (f"{attention}[image]", *text)
        layers: list[Layer] = [Attention(sites, attention, norms, self.keys, unread=2 - len(sites))]
        mlps, norms = self._mlp_sites(path), tuple(f"{path}.{norm}" for norm in self.mlp_norms)
        if self._is_shared():
            return [*layers, Shared(mlps, f"{path}.{self.mlps[0]}", norms[: len(mlps)])]
        return [*layers, *(TokenWise(mlp, mlp, norm) for mlp, norm in zip(mlps, norms, strict=False))]

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        groups = ("image",) if self.last else ("image", "text")
        at = {"image": place, "text": {**place, "width": self.text_width or place["width"]}}
        attention = {group: f"{path}.{self.attention}[{group}]" for group in groups}
        sites = [Site(attention[group], SELF_ATTENTION, group, **at[group], rows=False) for group in groups]
        for group, mlp in zip(groups, self._mlp_sites(path), strict=True):
            rows = group == "image" or not self.padded
            self_map = attention[group] if self.scored else None
            sites.append(Site(mlp, MLP, group, **at[group], rows=rows, self_map=self_map))
        return sites

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site; a block that returns no text attends with it all the same."""
        rows, image, text, joint = shape.rows, shape.tokens["image"], shape.tokens["text"], shape.tokens["joint"]
        attention = block.get_submodule(self.attention)
        own = attention_cost(attention, rows, image, joint, self.own)
        added = attention_cost(attention, rows, text, joint, self.added[:3] if self.last else self.added)
        mlps = [token_cost(rows, image, block.get_submodule(self.mlps[0]))]
        if self.last:
            both = replace(
                own,
                full=own.full + added.full,
                scores=own.scores + added.scores,
                weights=own.weights + added.weights,
                shared=text * added.moved,  # none of the text's tokens is the site's
            )
            return [both, *mlps]
        mlps.append(token_cost(rows, text, block.get_submodule(self.mlps[1])))
        if self.added[0] == self.own[0]:  # the weights are the same, and stand with the image
            added = replace(added, weights=0)
        if self._is_shared():
            mlps[1] = replace(mlps[1], weights=0)
        return [own, added, *mlps]

    def _is_shared(self) -> bool:
        return self.mlps[0] == self.mlps[1]

    def _mlp_sites(self, path: str) -> tuple[str, ...]:
        both = ("[image]", "[text]") if self._is_shared() else ("", "")
        sites = tuple(f"{path}.{mlp}{group}" for mlp, group in zip(self.mlps, both, strict=True))
        return sites[:1] if self.last else sites


def joint_tokens(image: int, text: int) -> dict[str, int]:
    """Tokens by group, where both streams attend together."""
    return {"image": image, "text": text, "joint": image + text}


def packed_pass(transformer: Any, arguments: Mapping[str, Any]) -> Pass:
    """Rows and tokens of a forward whose image comes as tokens already, (rows, tokens, channels) like its text."""
    rows, image, _ = arguments["hidden_states"].shape
    text = arguments["encoder_hidden_states"].shape[1]
    return Pass(rows, joint_tokens(image, text), itemsize=itemsize_of(transformer))


def image_first_tokens(image: int, text: int) -> dict[str, int]:
    """Tokens by group, where both streams attend together and are then joined, the image first."""
    return joint_tokens(image, text) | {IMAGE_FIRST: image + text}


def modulations(stack: str, depth: int) -> tuple[str, ...]:
    """The projections to scale, shift and gate in the blocks of a stack, and that of the model's output."""
    norms = [f"{stack}.{b}.{norm}" for b in range(depth) for norm in ("norm1", "norm1_context")]
    return (*(f"{norm}.linear" for norm in norms), "norm_out.linear")
