"""Sana (Xie et al., arXiv 2410.10629): linear attention, attention to the text, and a convolutional feed-forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocache.engine.wiring import Attention, Layer, TokenWise
from tocache.models.base import itemsize_of, patched, unpublished
from tocache.models.costs import OWN, cross_cost, linear_flops, linear_moved, linear_weights
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION, UNCOND_COND, Cost, Pass, Site

# linear attention has no map that could rank tokens
SANA = unpublished("sana", CROSS_ATTENTION, score="norm")

_TEXT = 300


@dataclass(frozen=True)
class LinearBlock:
    """A block whose attention and feed-forward both mix tokens: only attention to the text computes single ones."""

    def layers(self, path: str) -> list[Layer]:
        """Those of the block at `path`."""
        attention, cross, convolutions = (f"{path}.{name}" for name in ("attn1", "attn2", "ff"))
        return [
            Attention((attention,), attention, (f"{path}.norm1",), ("image",)),
            TokenWise(cross, cross),  # it reads the token stream itself
            Attention((convolutions,), convolutions, (), ("image",), folded=True),
        ]

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        return [
            Site(f"{path}.attn1", SELF_ATTENTION, "image", **place, rows=False),
            Site(f"{path}.attn2", CROSS_ATTENTION, "image", **place, rows=True, cross_map=f"{path}.attn2"),
            Site(f"{path}.ff", MLP, "image", **place, rows=False),
        ]

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        rows, tokens, attention = shape.rows, shape.tokens["image"], block.attn1
        width = int(attention.to_q.out_features)
        # values by keys, with a row of ones below the values, then by queries; all in heads of their own
        products = 4 * width * (width // attention.heads + 1)
        projections = [getattr(attention, name) for name in OWN]
        token = linear_flops(projections) + products
        feed_forward = (block.ff.conv_inverted, block.ff.conv_depth, block.ff.conv_point)
        convolutions = sum(_convolution_flops(module) for module in feed_forward)
        return [
            Cost(
                full=rows * tokens * token,
                token=0,
                weights=linear_weights(projections),
                moved=rows * (linear_moved(projections) + 4 * width),
            ),
            cross_cost(block.attn2, rows, tokens, shape.context),
            Cost(
                full=rows * tokens * convolutions,
                token=0,
                weights=sum(int(weight.numel()) for module in feed_forward for weight in module.parameters()),
                moved=rows * sum(module.in_channels + module.out_channels for module in feed_forward),
            ),
        ]


class Sana(Stacked):
    """diffusers' SanaTransformer2DModel."""

    name = "sana"
    classes = ("SanaTransformer2DModel",)
    recipes = (SANA,)
    default_steps = 20
    default_guidance = 4.5
    stacked = (Blocks("transformer_blocks", LinearBlock()),)
    halves = UNCOND_COND
    notes = (
        "norms, modulation and the text's key and value projections are not counted",
        "linear attention and the convolutions are computed whole or served",
    )

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, {"image": grid[0] * grid[1]}, grid, itemsize=itemsize_of(transformer), context=text)

    def usual(self, transformer: Any) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        return Pass(1, {"image": side * side}, (side, side), context=_TEXT)


def _convolution_flops(module: Any) -> int:
    """FLOPs of a convolution for one place of its output."""
    height, width = module.kernel_size
    return int(2 * (module.in_channels // module.groups) * module.out_channels * height * width)
