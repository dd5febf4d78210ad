"""FLUX.1 (Black Forest Labs): double-stream blocks with joint attention, then fused single-stream blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Attention, Fused, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, itemsize_of, width_of
from tocache.plan.anatomy import MLP, PARALLEL, SELF_ATTENTION, Anatomy, Cost, Pass, Site
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Every

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"

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

    def recipe(self, steps: int) -> Recipe:
        return FLUX

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.transformer_blocks)):
            path = f"{DOUBLE}.{b}"
            layers.append(
                Attention(
                    sites=(f"{path}.attn[image]", f"{path}.attn[text]"),
                    module=f"{path}.attn",
                    norms=(f"{path}.norm1", f"{path}.norm1_context"),
                    groups=("text", "image"),
                )
            )
            layers.append(TokenWise(f"{path}.ff", f"{path}.ff", f"{path}.norm2"))
            layers.append(TokenWise(f"{path}.ff_context", f"{path}.ff_context", f"{path}.norm2_context"))
        for b in range(len(transformer.single_transformer_blocks)):
            path = f"{SINGLE}.{b}"
            layers.append(
                Fused(
                    attention_site=f"{path}.attn",
                    site=path,
                    norm=f"{path}.norm",
                    mlp_in=f"{path}.proj_mlp",
                    attention=f"{path}.attn",
                    mlp_out=f"{path}.proj_out",
                )
            )
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        streams = ("encoder_hidden_states", "hidden_states")
        return Stack(DOUBLE, streams), Stack(SINGLE, streams)

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, image, _ = arguments["hidden_states"].shape
        text = arguments["encoder_hidden_states"].shape[1]
        return Pass(rows, _tokens(image, text), itemsize=itemsize_of(transformer))

    def grid(self, transformer: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        ids = arguments["img_ids"]
        height, width = (int(n) + 1 for n in ids.reshape(-1, ids.shape[-1])[:, 1:3].amax(dim=0).tolist())
        # reference pictures joined to the stream (Kontext, Fill) make it no grid
        return (height, width) if height * width == arguments["hidden_states"].shape[1] else None

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        return Pass(pictures, _tokens(64 * 64, 512), (64, 64), itemsize=itemsize)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        scale = arguments.get("true_cfg_scale")
        negative = ("negative_prompt", "negative_prompt_embeds")
        if scale is not None and scale > 1 and any(arguments.get(name) is not None for name in negative):
            return Guidance((("cond", None), ("uncond", None)))
        return Guidance((("cond", None),))

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
        width = width_of(transformer)
        sites: list[Site] = []
        for b in range(double):
            path = f"{DOUBLE}.{b}"
            place: dict[str, Any] = {"stack": DOUBLE, "block": b, "depth": double, "width": width}
            for group in ("image", "text"):
                sites.append(Site(f"{path}.attn[{group}]", SELF_ATTENTION, group, **place, rows=False))
            for group, module in (("image", "ff"), ("text", "ff_context")):
                sites.append(Site(f"{path}.{module}", MLP, group, **place, rows=True, self_map=f"{path}.attn[{group}]"))
        for b in range(single):
            path = f"{SINGLE}.{b}"
            fused: dict[str, Any] = {"group": "joint", "stack": SINGLE, "block": b, "depth": single, "width": width}
            sites.append(Site(f"{path}.attn", SELF_ATTENTION, **fused, rows=False))
            inside = (f"{path}.attn",)
            sites.append(Site(path, PARALLEL, **fused, rows=True, self_map=f"{path}.attn", inside=inside))
        costs = (*self._double_costs(transformer, shape, width) * double, *self._single_costs(shape, width) * single)
        notes = (
            "norms and modulation are not counted",
            "double blocks cache their attention after its output projection, where the published code projects the "
            "cached heads again in every step: fewer FLOPs, the same result",
        )
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), costs, notes)

    def _double_costs(self, transformer: Any, shape: Pass, width: int) -> tuple[Cost, Cost, Cost, Cost]:
        rows, joint = shape.rows, shape.tokens["joint"]
        token = 8 * width**2 + 4 * joint * width  # attention
        mlp = 16 * width**2
        image, text = (rows * shape.tokens[group] for group in ("image", "text"))
        return (
            Cost(full=image * token, token=0, scores=image * 2 * joint * width),
            Cost(full=text * token, token=0, scores=text * 2 * joint * width),
            Cost(full=image * mlp, token=rows * mlp),
            Cost(full=text * mlp, token=rows * mlp),
        )

    def _single_costs(self, shape: Pass, width: int) -> tuple[Cost, Cost]:
        rows, joint = shape.rows, shape.tokens["joint"]
        attention = 6 * width**2 + 4 * joint * width
        fused = 18 * width**2  # MLP's first projection (8) and the output projection of attention and MLP (10)
        return (
            Cost(full=rows * joint * attention, token=0, scores=rows * 2 * joint**2 * width),
            Cost(full=rows * joint * fused, token=rows * fused),
        )


def _tokens(image: int, text: int) -> dict[str, int]:
    return {"image": image, "text": text, "joint": image + text}
