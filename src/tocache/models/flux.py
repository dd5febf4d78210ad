"""FLUX.1 (Black Forest Labs): double-stream blocks with joint attention, then fused single-stream blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from tocache.engine.wiring import Attention, Conditioned, Guidance, Layer, Stack
from tocache.models.base import ModelFamily, in_two_passes, width_of
from tocache.models.double_stream import DoubleStream, joint_tokens, modulations, packed_pass
from tocache.models.single_stream import SingleStream
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, PARALLEL, Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Every

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
BLOCK = DoubleStream()
SINGLE_BLOCK = SingleStream()

FLUX = Recipe(
    name="flux",
    schedule=Every(4, warmup=3),
    # the published code divides the block's index by 27 in both stacks, which have 19 and 38 blocks
    budget=Budget(0.1, {MLP: 0.4, PARALLEL: 1.6}, depth=0.5, last_block=27),
    policy=Policy(scores={"influence": 1.0}, staleness=0.25),
    source="published code, flux-ToCa (its README: FLUX.1-dev 1024, 50 steps, N = 4, fresh ratio 0.1)",
)


class Flux(ModelFamily):
    """diffusers' FluxTransformer2DModel."""

    name = "flux"
    classes = ("FluxTransformer2DModel",)
    recipes = (FLUX,)
    default_steps = 50
    default_guidance = 3.5
    notes: ClassVar[tuple[str, ...]] = (
        "norms and modulation are not counted",
        "double blocks cache their attention after its output projection, where the published code projects the "
        "cached heads again in every step: fewer FLOPs, the same result",
    )

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            attention, *rest = BLOCK.layers(f"{DOUBLE}.{b}")
            if _adapters(transformer, b) and isinstance(attention, Attention):
                attention = replace(attention, sites=(*attention.sites, f"{attention.module}[ip]"))
            layers += [attention, *rest]
        for b in range(len(transformer.single_transformer_blocks)):
            layers += SINGLE_BLOCK.layers(f"{SINGLE}.{b}")
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        streams = ("encoder_hidden_states", "hidden_states")
        return Stack(DOUBLE, streams), Stack(SINGLE, streams)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        return packed_pass(transformer, arguments)

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return grid_of(arguments)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        return Pass(pictures, joint_tokens(64 * 64, 512), (64, 64), itemsize=itemsize)

    def conditioned(self, transformer: Any) -> Conditioned | None:
        singles = (f"{SINGLE}.{b}.norm.linear" for b in range(len(transformer.single_transformer_blocks)))
        projections = {"time_text_embed": (*modulations(DOUBLE, len(transformer.transformer_blocks)), *singles)}
        return Conditioned("timestep", ("guidance", "pooled_projections"), projections, _embed, per=1000)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_two_passes(arguments, "true_cfg_scale")

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
        width = width_of(transformer)
        sites: list[Site] = []
        for b in range(double):
            path = f"{DOUBLE}.{b}"
            place: dict[str, Any] = {"stack": DOUBLE, "block": b, "depth": double, "width": width}
            image, text, *mlps = BLOCK.sites(path, place)
            sites += [image, text]
            if _adapters(transformer, b):
                sites.append(Site(f"{path}.attn[ip]", CROSS_ATTENTION, "image", **place, rows=False))
            sites += mlps
        for b in range(single):
            place = {"stack": SINGLE, "block": b, "depth": single, "width": width}
            sites += SINGLE_BLOCK.sites(f"{SINGLE}.{b}", place)
        costs: list[Cost] = []
        for b, block in enumerate(transformer.transformer_blocks):
            own, added, *others = BLOCK.costs(block, shape)
            tokens = _adapters(transformer, b)
            # the queries are those of the attention beside it
            adapter = 4 * tokens * width * (shape.tokens["image"] + transformer.config.joint_attention_dim)
            costs += [own, added, *([Cost(full=shape.rows * adapter, token=0)] if tokens else []), *others]
        for block in transformer.single_transformer_blocks:
            costs += SINGLE_BLOCK.costs(block, shape)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), self.notes)


def grid_of(arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the positions of the image's tokens tell."""
    ids = arguments["img_ids"]
    height, width = (int(n) + 1 for n in ids.reshape(-1, ids.shape[-1])[:, 1:3].amax(dim=0).tolist())
    # reference pictures joined to the stream (Kontext, Fill) make it no grid
    return (height, width) if height * width == arguments["hidden_states"].shape[1] else None


def _adapters(transformer: Any, block: int) -> int:
    """Tokens of the pictures that a double-stream block's IP-Adapters attend to, one for each; 0 without any."""
    if not hasattr(getattr(transformer.transformer_blocks[block].attn, "processor", None), "to_k_ip"):
        return 0
    return sum(layer.num_image_text_embeds for layer in transformer.encoder_hid_proj.image_projection_layers)


def _embed(module: Any, arguments: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
    """The pipelines divide the time by 1000, and the model multiplies it again."""
    numbers = [arguments[name] for name in ("timestep", "guidance") if arguments[name] is not None]
    embedded: torch.Tensor = module(*(number.to(dtype) * 1000 for number in numbers), arguments["pooled_projections"])
    return embedded
