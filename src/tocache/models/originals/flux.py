"""black-forest-labs/flux → FluxTransformer2DModel, at any width (diffusers' own converter knows 3072 only)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from diffusers import FluxTransformer2DModel
from torch import Tensor

from tocache.checkpoints import sizes
from tocache.checkpoints.checks import StateDict
from tocache.checkpoints.remap import Rule, linear, remap, shapes_of
from tocache.errors import CheckpointError, OptionError

_PUBLISHED_AXES = {128: (16, 56, 56)}  # rotary channels for (index, row, column) of a token, by head width


def convert_flux(
    state_dict: StateDict, *, axes_dims_rope: Sequence[int] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the state dict of the FluxTransformer2DModel that equals an original FLUX.

    `state_dict` holds the original's parameter names. `axes_dims_rope` splits a head's channels among the three
    axes of a token's position and is needed where a head is not 128 wide. The published ToCa code's scratch layer
    `mlp_in` is dropped.

    Raises CheckpointError, naming keys and shapes, where anything does not fit; OptionError for an impossible option.
    """
    weights = {name: tensor for name, tensor in state_dict.items() if ".mlp_in." not in name}
    config = _config(weights, axes_dims_rope)
    return config, remap(weights, _rules(config), shapes_of(FluxTransformer2DModel, config))


def _config(state: StateDict, axes: Sequence[int] | None) -> dict[str, Any]:
    hidden, channels = sizes.shape(state, "img_in.weight", 2)
    (head,) = sizes.shape(state, "double_blocks.0.img_attn.norm.query_norm.scale", 1)
    if hidden % head:
        raise CheckpointError(f"img_in.weight has {hidden} rows; expected a multiple of the head width {head}")
    return {
        "in_channels": channels,
        "out_channels": sizes.shape(state, "final_layer.linear.weight", 2)[0],
        "num_layers": sizes.depth(state, "double_blocks"),
        "num_single_layers": sizes.depth(state, "single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": sizes.shape(state, "txt_in.weight", 2)[1],
        "pooled_projection_dim": sizes.shape(state, "vector_in.in_layer.weight", 2)[1],
        "guidance_embeds": any(name.startswith("guidance_in.") for name in state),
        "axes_dims_rope": _axes(head, axes),
    }


def _axes(head: int, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None and head not in _PUBLISHED_AXES:
        raise CheckpointError(f"how a head of {head} channels is split among the axes is unknown: give axes_dims_rope=")
    axes = _PUBLISHED_AXES[head] if given is None else tuple(given)
    if len(axes) != 3 or sum(axes) != head or any(axis < 2 or axis % 2 for axis in axes):
        raise OptionError(f"axes_dims_rope={axes} is not allowed; allowed: three even numbers whose sum is {head}")
    return axes


def _rules(config: dict[str, Any]) -> Iterator[Rule]:
    yield from linear("img_in", "x_embedder")
    yield from linear("txt_in", "context_embedder")
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder"}
    if config["guidance_embeds"]:
        embedders["guidance_in"] = "guidance_embedder"
    for source, target in embedders.items():
        yield from linear(f"{source}.in_layer", f"time_text_embed.{target}.linear_1")
        yield from linear(f"{source}.out_layer", f"time_text_embed.{target}.linear_2")
    for i in range(config["num_layers"]):
        yield from _double_rules(f"double_blocks.{i}", f"transformer_blocks.{i}")
    for i in range(config["num_single_layers"]):
        yield from _single_rules(f"single_blocks.{i}", f"single_transformer_blocks.{i}")
    # the original's modulation gives (shift, scale) here, AdaLayerNormContinuous takes (scale, shift)
    yield from linear("final_layer.adaLN_modulation.1", "norm_out.linear", swap_halves=True)
    yield from linear("final_layer.linear", "proj_out")


def _double_rules(source: str, target: str) -> Iterator[Rule]:
    attention = f"{target}.attn"
    image = ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k")
    text = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k")
    for group, names, norm, mlp in (("img", image, "norm1", "ff"), ("txt", text, "norm1_context", "ff_context")):
        q, k, v, out, norm_q, norm_k = (f"{attention}.{name}" for name in names)
        yield from linear(f"{source}.{group}_mod.lin", f"{target}.{norm}.linear")
        yield from linear(f"{source}.{group}_attn.qkv", q, k, v)
        yield from linear(f"{source}.{group}_attn.proj", out)
        yield from _query_key_norms(f"{source}.{group}_attn", norm_q, norm_k)
        yield from linear(f"{source}.{group}_mlp.0", f"{target}.{mlp}.net.0.proj")
        yield from linear(f"{source}.{group}_mlp.2", f"{target}.{mlp}.net.2")


def _single_rules(source: str, target: str) -> Iterator[Rule]:
    q, k, v = (f"{target}.attn.{name}" for name in ("to_q", "to_k", "to_v"))
    yield from linear(f"{source}.modulation.lin", f"{target}.norm.linear")
    yield from linear(f"{source}.linear1", q, k, v, f"{target}.proj_mlp")
    yield from linear(f"{source}.linear2", f"{target}.proj_out")
    yield from _query_key_norms(source, f"{target}.attn.norm_q", f"{target}.attn.norm_k")


def _query_key_norms(source: str, norm_q: str, norm_k: str) -> Iterator[Rule]:
    yield Rule(f"{source}.norm.query_norm.scale", (f"{norm_q}.weight",))
    yield Rule(f"{source}.norm.key_norm.scale", (f"{norm_k}.weight",))
