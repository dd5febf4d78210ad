"""HiDream-I1 (HiDream.ai, arXiv 2505.22705): both kinds of streams, a new text in each block, and experts as MLPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from tocache.models.base import itemsize_of, present_tokens, unpublished
from tocache.models.costs import OWN, linear_weights, token_cost
from tocache.models.double_stream import DoubleStream, image_first_tokens
from tocache.models.separable import Module, Separable
from tocache.models.stacked import Blocks, Stacked
from tocache.plan.anatomy import IMAGE_FIRST, MLP, UNCOND_COND, Cost, Pass, Site

HIDREAM = unpublished("hidream", MLP)

PICTURE = "picture"  # the image's tokens without the padding that a picture which is no square gets
_TEXT = 3 * 128


@dataclass(frozen=True)
class ExpertStreams(DoubleStream):
    """A double-stream block whose image may be padded, and whose image's MLP may be experts, some for each token."""

    def sites(self, path: str, place: Mapping[str, Any]) -> list[Site]:
        """Those of the block at `path`, whose stack, number, depth and width are `place`."""
        mlp = f"{path}.{self.mlps[0]}"
        return [replace(s, counted=PICTURE) if s.name == mlp else s for s in super().sites(path, place)]

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        image, text, _, mlp = super().costs(block, shape)
        return [image, text, _expert_cost(shape.rows, shape.tokens["image"], block.ff_i), mlp]


@dataclass(frozen=True)
class ExpertStream(Separable):
    """A block on the joined stream whose MLP may be experts."""

    def costs(self, block: Any, shape: Pass) -> list[Cost]:
        """One for each site."""
        attention, _ = super().costs(block, shape)
        return [attention, _expert_cost(shape.rows, shape.tokens[self.group], block.ff_i)]


DOUBLE = ExpertStreams(
    norms=("norm1_i", "norm1_t"),
    mlp_norms=("norm3_i", "norm3_t"),
    mlps=("ff_i", "ff_t"),
    keys=("image", "text"),
    attention="attn1",
    added=tuple(f"{name}_t" for name in OWN),
)
SINGLE = ExpertStream(Module("attn1", "norm1_i"), Module("ff_i", "norm3_i"), group=IMAGE_FIRST, counted=PICTURE)


class HiDream(Stacked):
    """diffusers' HiDreamImageTransformer2DModel."""

    name = "hidream"
    classes = ("HiDreamImageTransformer2DModel",)
    recipes = (HIDREAM,)
    default_steps = 50
    default_guidance = 5.0
    stacked = (
        Blocks("double_stream_blocks", DOUBLE, ("hidden_states", "encoder_hidden_states"), inner="block"),
        Blocks("single_stream_blocks", SINGLE, inner="block"),
    )
    halves = UNCOND_COND

    def measure(self, transformer: Any, arguments: Mapping[str, Any]) -> Pass:
        states, llama = arguments["hidden_states"], arguments["encoder_hidden_states_llama3"]
        grid, image = _image(transformer, arguments)
        # one of Llama's layers goes through all blocks beside T5's tokens, another comes with each block
        text = arguments["encoder_hidden_states_t5"].shape[1] + 2 * llama[0].shape[1]
        picture = image if grid is None else grid[0] * grid[1]
        tokens = image_first_tokens(image, text) | {PICTURE: picture}
        return Pass(states.shape[0], tokens, grid if picture == image else None, itemsize=itemsize_of(transformer))

    def present(self, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        shape = self.measure(transformer, arguments)
        picture, image = shape.tokens[PICTURE], shape.tokens["image"]
        if picture == image:
            return {}
        there = present_tokens([picture] * shape.rows, image, arguments["hidden_states"].device)
        text = there.new_ones((shape.rows, shape.tokens["text"]))
        return {"image": there, IMAGE_FIRST: torch.cat([there, text], dim=1)}

    def usual(self, transformer: Any) -> Pass:
        return Pass(1, image_first_tokens(64 * 64, _TEXT) | {PICTURE: 64 * 64}, (64, 64))


def _image(transformer: Any, arguments: Mapping[str, Any]) -> tuple[tuple[int, int] | None, int]:
    """The picture's grid, None where it comes as tokens, and how many tokens it has with its padding."""
    states = arguments["hidden_states"]
    if states.ndim == 3:
        return None, states.shape[1]
    height, width = states.shape[2:]
    patch = transformer.config.patch_size
    grid = (height // patch, width // patch)
    return grid, grid[0] * grid[1] if height == width else int(transformer.max_seq)


def _expert_cost(rows: int, tokens: int, mlp: Any) -> Cost:
    """Each token passes the shared expert, the gate, and as many experts as it is given."""
    if not hasattr(mlp, "experts"):
        return token_cost(rows, tokens, mlp)
    cost = token_cost(rows, tokens, mlp.shared_experts, *[mlp.experts[0]] * mlp.num_activated_experts)
    gate = int(mlp.gate.weight.numel())
    return replace(
        cost,
        full=cost.full + 2 * rows * tokens * gate,
        token=cost.token + 2 * rows * gate,
        weights=linear_weights((mlp,)) + gate,  # some token is given to each of them
    )
