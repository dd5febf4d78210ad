"""Open-Sora 1.2 (STDiT3): pairs of a spatial and a temporal block, each with attention to the text and an MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tocache.engine.wiring import Attention, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, width_of
from tocache.models.costs import linear_moved, linear_weights, token_cost
from tocache.opensora.sizes import latent_frames
from tocache.plan.anatomy import (
    COND_UNCOND,
    CROSS_ATTENTION,
    MLP,
    SELF_ATTENTION,
    TEMPORAL_ATTENTION,
    Anatomy,
    Cost,
    Pass,
    Site,
)
from tocache.plan.budget import Budget
from tocache.plan.policy import Policy
from tocache.plan.recipe import Recipe
from tocache.plan.schedule import Cycles

SPATIAL, TEMPORAL = "spatial_blocks", "temporal_blocks"

OPENSORA = Recipe(
    name="opensora",
    schedule=Cycles(3, {CROSS_ATTENTION: 2}, warmup=3),
    # the published factor of cross-attention, 1 − 0.67 · 1.5, lies below 0: its output is reused whole
    budget=Budget(0.1, {CROSS_ATTENTION: 1 - 0.67 * 1.5, MLP: 1 + 0.33 * 1.5}),
    policy=Policy(scores={"entropy": 1.0}, staleness=0.25, together=True),
    source="published code, Open-Sora-ToCa (ToCa table 2: 480p 9:16 2 s, 30 steps, R = 85%)",
)

_USUAL_GRID = (15, 30, 53)  # 480p, 9:16, 2 s: 51 frames of 480 × 854 pixels
_PIXELS_PER_TOKEN = 16  # in each direction: eight by the autoencoder, two by the patches
_BASE_PIXELS = 512 * 512  # whose times are not shifted


class OpenSora(ModelFamily):
    """tocache's STDiT3Transformer3DModel."""

    name = "opensora"
    classes = ("STDiT3Transformer3DModel",)
    recipes = (OPENSORA,)
    default_steps = 30
    default_guidance = 7.0

    def layers(self, transformer: Any) -> Sequence[Layer]:
        # With given frames a modulation is not the same for all tokens of a row. The blocks call no norm module then
        # (`tocache.opensora.block.normed`), and tokens are chosen at the attention and the MLP instead.
        layers: list[Layer] = []
        for b in range(len(transformer.spatial_blocks)):
            for stack in (SPATIAL, TEMPORAL):
                path = f"{stack}.{b}"
                layers.append(Attention((f"{path}.attn",), f"{path}.attn", (f"{path}.norm1",), ("image",)))
                layers.append(TokenWise(f"{path}.cross_attn", f"{path}.cross_attn"))
                layers.append(TokenWise(f"{path}.mlp", f"{path}.mlp", f"{path}.norm2"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return (Stack(SPATIAL, ("x",)), Stack(TEMPORAL, ("x",)))

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, _, *latent = arguments["hidden_states"].shape
        grid = tuple(-(-side // patch) for side, patch in zip(latent, transformer.patch_size, strict=True))
        text = arguments["encoder_hidden_states"].shape[-2]
        return Pass(rows, {"image": math.prod(grid)}, grid, itemsize=itemsize_of(transformer), context=text)

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        rows, halves = (2 * pictures, COND_UNCOND) if guided else (pictures, None)
        context = int(transformer.config.max_text_length)
        grid = _trained_grid(transformer) or _USUAL_GRID
        return Pass(rows, {"image": math.prod(grid)}, grid, halves, itemsize=itemsize, context=context)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, COND_UNCOND)

    def timesteps(self, shape: Pass, steps: int) -> tuple[float, ...]:
        """Shifted as the scheduler does: the larger and longer the video, the more steps are spent at high times."""
        assert shape.grid is not None
        frames, rows, columns = shape.grid
        shift = math.sqrt(rows * columns * _PIXELS_PER_TOKEN**2 / _BASE_PIXELS) * math.sqrt(frames)
        times = (1 - step / steps for step in range(steps))
        return tuple(1000 * shift * time / (1 + (shift - 1) * time) for time in times)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        depth, width = len(transformer.spatial_blocks), width_of(transformer)
        sites: list[Site] = []
        for b in range(depth):
            for stack, attention in ((SPATIAL, SELF_ATTENTION), (TEMPORAL, TEMPORAL_ATTENTION)):
                path = f"{stack}.{b}"
                place: dict[str, Any] = {"group": "image", "stack": stack, "block": b, "depth": depth, "width": width}
                sites.append(Site(f"{path}.attn", attention, **place, rows=False))
                for name, kind in (("cross_attn", CROSS_ATTENTION), ("mlp", MLP)):
                    sites.append(Site(f"{path}.{name}", kind, **place, rows=True, cross_map=f"{path}.cross_attn"))
        costs = (*self._costs(transformer, shape, width, SPATIAL), *self._costs(transformer, shape, width, TEMPORAL))
        notes = (
            "norms, modulation, the inner products with the text and its key and value projections are not counted",
        )
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), costs * depth, notes)

    def _costs(self, transformer: Any, shape: Pass, width: int, stack: str) -> tuple[Cost, Cost, Cost]:
        rows, tokens, text = shape.rows, shape.tokens["image"], shape.context
        assert shape.grid is not None
        length = tokens // shape.grid[0] if stack == SPATIAL else shape.grid[0]  # of the sequences attended to
        block = transformer.get_submodule(stack)[0]
        attends, crosses = (block.attn.qkv, block.attn.proj), (block.cross_attn.q_linear, block.cross_attn.proj)
        texts = (block.cross_attn.kv_linear,)
        mlp = token_cost(rows, tokens, block.mlp)
        attention, cross = token_cost(rows, tokens, *attends), token_cost(rows, tokens, *crosses)
        return (
            replace(
                attention,
                full=attention.full + rows * tokens * 4 * length * width,
                token=0,
                moved=attention.moved + rows * 4 * width,
            ),
            replace(
                cross,
                scores=rows * 2 * tokens * text * width,
                weights=cross.weights + linear_weights(texts),
                moved=cross.moved + rows * 2 * width,
                shared=rows * text * (linear_moved(texts) + 2 * width),
            ),
            mlp,
        )


def _trained_grid(transformer: Any) -> tuple[int, int, int] | None:
    """Tokens in time, rows and columns of the videos that a transformer was trained on, where it says."""
    config = transformer.config
    if config.sample_size is None or config.sample_frames is None:
        return None
    latent = (latent_frames(config.sample_frames), config.sample_size, config.sample_size)
    frames, rows, columns = (-(-side // patch) for side, patch in zip(latent, transformer.patch_size, strict=True))
    return frames, rows, columns
