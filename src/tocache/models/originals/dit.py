"""facebookresearch/DiT (Peebles & Xie 2022, arXiv 2212.09748) → DiTTransformer2DModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn

from tocache.checkpoints import sizes
from tocache.checkpoints.checks import StateDict
from tocache.checkpoints.remap import Rule, linear, remap, shapes_of
from tocache.errors import CheckpointError, UnsupportedModelError
from tocache.models.originals import dit_sizes

_POSITION_TOLERANCE = 2e-3  # a table stored in half precision still passes, any other table does not


def convert_dit(
    state_dict: StateDict, *, num_heads: int | None = None, sample_size: int | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the state dict of the DiTTransformer2DModel that equals an original DiT.

    `state_dict` holds the original's parameter names. `num_heads` is needed where the hidden size is not that of
    DiT-S, B, L or XL. `sample_size` (latent pixels) is needed where the fixed table `pos_embed` (1, N, C) is not in
    it; the table itself is dropped, for diffusers computes it.

    The model equals the original only with its timestep embedding corrected too: `exact_timestep_embedding`.

    Raises CheckpointError, naming keys and shapes, where anything does not fit; OptionError for an impossible option.
    """
    config = _config(state_dict, num_heads, sample_size)
    _check_positions(state_dict, config)
    weights = {name: tensor for name, tensor in state_dict.items() if name != "pos_embed"}
    return config, remap(weights, _rules(config["num_layers"]), shapes_of(DiTTransformer2DModel, config))


def exact_timestep_embedding(transformer: nn.Module, exact: bool = True) -> None:
    """Make the timestep's frequencies those that DiT was trained with (`exact`), or diffusers' again.

    DiT's k-th of n frequencies is 10000^(−k/n); diffusers hard-codes the exponent −k/(n−1) for this model, which
    changes the output for every timestep but 0. Neither the weights nor the config are touched, so a model that is
    saved and loaded with diffusers is back at diffusers' frequencies.

    Raises UnsupportedModelError for any other model: only this one has the difference.
    """
    if not isinstance(transformer, DiTTransformer2DModel):
        raise UnsupportedModelError(f"{type(transformer).__name__}: only DiTTransformer2DModel embeds time differently")
    blocks: Any = transformer.get_submodule("transformer_blocks")
    for block in blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0 if exact else 1


def _config(state: StateDict, num_heads: int | None, sample_size: int | None) -> dict[str, Any]:
    hidden, channels, patch, _ = sizes.shape(state, "x_embedder.proj.weight", 4)
    heads = dit_sizes.heads(hidden, num_heads)
    labels, _ = sizes.shape(state, "y_embedder.embedding_table.weight", 2)
    return {
        "num_attention_heads": heads,
        "attention_head_dim": hidden // heads,
        "in_channels": channels,
        "out_channels": dit_sizes.output_channels(state, patch),
        "num_layers": sizes.depth(state, "blocks"),
        "sample_size": dit_sizes.sample_size(state, patch, sample_size),
        "patch_size": patch,
        "num_embeds_ada_norm": labels - 1,  # the last row is the null label of classifier-free guidance
        "norm_eps": 1e-6,  # diffusers' default is 1e-5
    }


def _check_positions(state: StateDict, config: dict[str, Any]) -> None:
    """Refuse a `pos_embed` that is not the table diffusers computes: it would be lost without a word."""
    if "pos_embed" not in state:
        return
    side = config["sample_size"] // config["patch_size"]
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    found = state["pos_embed"]
    if tuple(found.shape) != (1, side * side, hidden):
        raise CheckpointError(f"pos_embed has shape {tuple(found.shape)}; expected {(1, side * side, hidden)}")
    table = get_2d_sincos_pos_embed(hidden, side, base_size=side, output_type="pt")
    off = (found[0].to(table) - table).abs().max().item()
    if not off <= _POSITION_TOLERANCE:
        raise CheckpointError(
            f"pos_embed is not the sine-cosine table of {side} x {side} tokens: off by up to {off:.2g}"
        )


def _rules(depth: int) -> Iterator[Rule]:
    yield from linear("x_embedder.proj", "pos_embed.proj")
    yield from linear("final_layer.adaLN_modulation.1", "proj_out_1")
    yield from linear("final_layer.linear", "proj_out_2")
    for i in range(depth):
        yield from _block_rules(f"blocks.{i}", f"transformer_blocks.{i}")


def _block_rules(source: str, target: str) -> Iterator[Rule]:
    attention = f"{target}.attn1"
    yield from linear(f"{source}.attn.qkv", f"{attention}.to_q", f"{attention}.to_k", f"{attention}.to_v")
    yield from linear(f"{source}.attn.proj", f"{attention}.to_out.0")
    yield from linear(f"{source}.mlp.fc1", f"{target}.ff.net.0.proj")
    yield from linear(f"{source}.mlp.fc2", f"{target}.ff.net.2")
    yield from linear(f"{source}.adaLN_modulation.1", f"{target}.norm1.linear")
    # one embedder of time and label in the original, a copy of it in every block here
    embedder = f"{target}.norm1.emb"
    yield from linear("t_embedder.mlp.0", f"{embedder}.timestep_embedder.linear_1")
    yield from linear("t_embedder.mlp.2", f"{embedder}.timestep_embedder.linear_2")
    labels = "embedding_table.weight"
    yield Rule(f"y_embedder.{labels}", (f"{embedder}.class_embedder.{labels}",))
