"""AuraFlow (fal.ai): double-stream blocks, then blocks on the joint stream; after them the text is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tocache.engine.wiring import Attention, Guidance, Layer, Stack, TokenWise
from tocache.models.base import ModelFamily, in_one_batch, itemsize_of, patched, unpublished, width_of
from tocache.models.costs import attention_cost, token_cost
from tocache.models.double_stream import DoubleStream, joint_tokens
from tocache.plan.anatomy import MLP, SELF_ATTENTION, UNCOND_COND, Anatomy, Cost, Pass, Site

DOUBLE, SINGLE = "joint_transformer_blocks", "single_transformer_blocks"
AURA_FLOW = unpublished("aura-flow", MLP)
BLOCK = DoubleStream()


class AuraFlow(ModelFamily):
    """diffusers' AuraFlowTransformer2DModel."""

    name = "aura-flow"
    classes = ("AuraFlowTransformer2DModel",)
    recipes = (AURA_FLOW,)
    default_steps = 50
    default_guidance = 3.5

    def layers(self, transformer: Any) -> Sequence[Layer]:
        layers: list[Layer] = []
        for b in range(len(transformer.joint_transformer_blocks)):
            layers += BLOCK.layers(f"{DOUBLE}.{b}")
        for b in range(len(transformer.single_transformer_blocks)):
            path = f"{SINGLE}.{b}"
            layers.append(Attention((f"{path}.attn",), f"{path}.attn", (f"{path}.norm1",), ("joint",)))
            layers.append(TokenWise(f"{path}.ff", f"{path}.ff", f"{path}.norm2"))
        return layers

    def stacks(self, transformer: Any) -> Sequence[Stack]:
        return Stack(DOUBLE, ("encoder_hidden_states", "hidden_states")), Stack(SINGLE, ("hidden_states",))

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        rows, grid = patched(transformer, arguments["hidden_states"])
        text = arguments["encoder_hidden_states"].shape[1] + transformer.register_tokens.shape[1]
        return Pass(rows, joint_tokens(grid[0] * grid[1], text), grid, itemsize=itemsize_of(transformer))

    def default_pass(self, transformer: Any, *, pictures: int, guided: bool, itemsize: int) -> Pass:
        side = transformer.config.sample_size // transformer.config.patch_size
        rows, halves = (2 * pictures, UNCOND_COND) if guided else (pictures, None)
        tokens = joint_tokens(side * side, 256 + transformer.register_tokens.shape[1])
        return Pass(rows, tokens, (side, side), halves, itemsize=itemsize)

    def guidance(self, pipeline: Any, arguments: Mapping[str, Any]) -> Guidance:
        return in_one_batch(arguments, UNCOND_COND)

    def anatomy(self, transformer: Any, shape: Pass) -> Anatomy:
        double, single = transformer.joint_transformer_blocks, transformer.single_transformer_blocks
        width, rows, joint = width_of(transformer), shape.rows, shape.tokens["joint"]
        sites: list[Site] = []
        costs: list[Cost] = []
        for b, block in enumerate(double):
            place: dict[str, Any] = {"stack": DOUBLE, "block": b, "depth": len(double), "width": width}
            sites += BLOCK.sites(f"{DOUBLE}.{b}", place)
            costs += BLOCK.costs(block, shape)
        for b, block in enumerate(single):
            path = f"{SINGLE}.{b}"
            place = {"group": "joint", "stack": SINGLE, "block": b, "depth": len(single), "width": width}
            sites.append(Site(f"{path}.attn", SELF_ATTENTION, **place, rows=False))
            sites.append(Site(f"{path}.ff", MLP, **place, rows=True, self_map=f"{path}.attn"))
            costs.append(attention_cost(block.attn, rows, joint, joint))
            costs.append(token_cost(rows, joint, block.ff))
        notes = ("norms and modulation are not counted",)
        return Anatomy(self.name, self.model_name(transformer), shape, tuple(sites), tuple(costs), notes)
