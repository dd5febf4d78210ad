"""PixArt-α (Chen et al. 2023, arXiv 2310.00426) → PixArtTransformer2DModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import PixArtTransformer2DModel
from torch import Tensor

from tocache.checkpoints import sizes
from tocache.checkpoints.checks import StateDict
from tocache.checkpoints.remap import Rule, linear, remap, shapes_of
from tocache.models.originals import dit_sizes

_NEGATIVE_CAPTION = "y_embedder.y_embedding"
_DROPPED = ("pos_embed", _NEGATIVE_CAPTION)
_SIZE_EMBEDDERS = {"csize_embedder": "resolution_embedder", "ar_embedder": "aspect_ratio_embedder"}


def convert_pixart(
    state_dict: StateDict, *, num_heads: int | None = None, sample_size: int | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the state dict of the PixArtTransformer2DModel that equals an original PixArt-α.

    `state_dict` holds the original's parameter names, with or without the embedders of picture size and aspect ratio
    (the 1024-pixel model). `num_heads` is needed where the hidden size is not 1152. `sample_size` (latent pixels)
    overrules what `pos_embed` (1, N, C) says and is needed without it; that table is dropped, as the original drops
    it too, for both compute it. So is the caption of nothing: `negative_caption`.

    Raises CheckpointError, naming keys and shapes, where anything does not fit; OptionError for an impossible option.
    """
    config = _config(state_dict, num_heads, sample_size)
    weights = {name: tensor for name, tensor in state_dict.items() if name not in _DROPPED}
    rules = _rules(config["num_layers"], config["use_additional_conditions"])
    return config, remap(weights, rules, shapes_of(PixArtTransformer2DModel, config))


def negative_caption(state_dict: StateDict) -> Tensor | None:
    """The trained embedding (tokens, caption channels) that stands for no caption, or None where it was left out.

    The original's classifier-free guidance uses it as the negative prompt's embedding (under the mask of the
    prompt), where diffusers' pipeline encodes an empty prompt.
    Raises CheckpointError where it is not (tokens, caption channels).
    """
    if _NEGATIVE_CAPTION not in state_dict:
        return None
    sizes.shape(state_dict, _NEGATIVE_CAPTION, 2)
    return state_dict[_NEGATIVE_CAPTION]


def _config(state: StateDict, num_heads: int | None, sample_size: int | None) -> dict[str, Any]:
    hidden, channels, patch, _ = sizes.shape(state, "x_embedder.proj.weight", 4)
    heads = dit_sizes.heads(hidden, num_heads)
    side = dit_sizes.sample_size(state, patch, sample_size)
    return {
        "num_attention_heads": heads,
        "attention_head_dim": hidden // heads,
        "in_channels": channels,
        "out_channels": dit_sizes.output_channels(state, patch),
        "num_layers": sizes.depth(state, "blocks"),
        "sample_size": side,
        "patch_size": patch,
        "cross_attention_dim": hidden,
        "caption_channels": sizes.shape(state, "y_embedder.y_proj.fc1.weight", 2)[1],
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
        # the original's lewei_scale: positions count in units of the 512-pixel model (64 latent pixels)
        "interpolation_scale": max(side // 64, 1),
        # said outright: diffusers would otherwise infer it from the sample size
        "use_additional_conditions": any(name.startswith(tuple(_SIZE_EMBEDDERS)) for name in state),
    }


def _rules(depth: int, sizes_as_conditions: bool) -> Iterator[Rule]:
    embedder = "adaln_single.emb"
    yield from linear("x_embedder.proj", "pos_embed.proj")
    yield from linear("t_embedder.mlp.0", f"{embedder}.timestep_embedder.linear_1")
    yield from linear("t_embedder.mlp.2", f"{embedder}.timestep_embedder.linear_2")
    yield from linear("t_block.1", "adaln_single.linear")
    yield from linear("y_embedder.y_proj.fc1", "caption_projection.linear_1")
    yield from linear("y_embedder.y_proj.fc2", "caption_projection.linear_2")
    yield from linear("final_layer.linear", "proj_out")
    yield Rule("final_layer.scale_shift_table", ("scale_shift_table",))
    for source, target in _SIZE_EMBEDDERS.items() if sizes_as_conditions else ():
        yield from linear(f"{source}.mlp.0", f"{embedder}.{target}.linear_1")
        yield from linear(f"{source}.mlp.2", f"{embedder}.{target}.linear_2")
    for i in range(depth):
        yield from _block_rules(f"blocks.{i}", f"transformer_blocks.{i}")


def _block_rules(source: str, target: str) -> Iterator[Rule]:
    own, cross = f"{target}.attn1", f"{target}.attn2"
    yield from linear(f"{source}.attn.qkv", f"{own}.to_q", f"{own}.to_k", f"{own}.to_v")
    yield from linear(f"{source}.attn.proj", f"{own}.to_out.0")
    yield from linear(f"{source}.cross_attn.q_linear", f"{cross}.to_q")
    yield from linear(f"{source}.cross_attn.kv_linear", f"{cross}.to_k", f"{cross}.to_v")
    yield from linear(f"{source}.cross_attn.proj", f"{cross}.to_out.0")
    yield from linear(f"{source}.mlp.fc1", f"{target}.ff.net.0.proj")
    yield from linear(f"{source}.mlp.fc2", f"{target}.ff.net.2")
    yield Rule(f"{source}.scale_shift_table", (f"{target}.scale_shift_table",))
