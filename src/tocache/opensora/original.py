"""The published checkpoints of Open-Sora 1.2 → the classes here. Names are the same; sizes are read off the tensors."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tocache.checkpoints import sizes
from tocache.checkpoints.checks import StateDict, check_tensors, listed, naming
from tocache.checkpoints.files import read_config, read_tensors
from tocache.errors import CheckpointError
from tocache.opensora.embeddings import rotary_frequencies
from tocache.opensora.transformer import STDiT3Transformer3DModel
from tocache.opensora.vae import PICTURES, AutoencoderKLOpenSora

_ROTARY = "rope.freqs"  # a table that the model makes by itself; a checkpoint may do without it
_TOKENIZER_READERS = ("sentencepiece", "protobuf")


def load_original_transformer(path: str | Path, *, dtype: torch.dtype | None = None) -> STDiT3Transformer3DModel:
    """STDiT3 from a folder (weights and, if there is one, `config.json`) or a file, on the CPU, in eval mode.

    dtype  of the model; None: float32

    Raises CheckpointError for pickled code and for missing, unexpected or misshapen tensors, which it names; OSError
    where a file cannot be opened.
    """
    tensors = read_tensors(path)
    published = read_config(path)
    with naming(path):
        config = transformer_config(tensors, published)
        if _ROTARY not in tensors:
            tensors[_ROTARY] = rotary_frequencies(config["attention_head_dim"])
        transformer: STDiT3Transformer3DModel = _filled(STDiT3Transformer3DModel, config, tensors, dtype)
    return transformer


def load_original_vae(
    path: str | Path, *, dtype: torch.dtype | None = None, norm_num_groups: int = 32
) -> AutoencoderKLOpenSora:
    """Both halves of the autoencoder from one folder or file, on the CPU, in eval mode.

    dtype            of the model; None: float32
    norm_num_groups  of all group norms, which leave no trace in the weights

    Raises as `load_original_transformer` does.
    """
    tensors = read_tensors(path)
    with naming(path):
        vae: AutoencoderKLOpenSora = _filled(
            AutoencoderKLOpenSora, vae_config(tensors, norm_num_groups), tensors, dtype
        )
    return vae


def load_original_text(path: str | Path, *, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """T5's tokenizer and encoder from its published folder, or a hub id, on the CPU, in eval mode.

    dtype  of the encoder; None: float32

    Raises CheckpointError for missing tensors, which it names, and where the folder holds the tokenizer as
    `spiece.model` alone, as the published one does, and a package that reads it is not installed; OSError where the
    folder cannot be read.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    pieces = Path(path) / "spiece.model"
    missing = [package for package in _TOKENIZER_READERS if not _installed(package)]
    if missing and pieces.exists() and not pieces.with_name("tokenizer.json").exists():
        needed = " and ".join(missing)
        raise CheckpointError(f"{pieces} is read by {needed}, not installed: pip install 'tocache[opensora]'")
    tokenizer = AutoTokenizer.from_pretrained(path)
    encoder, info = T5EncoderModel.from_pretrained(path, dtype=dtype or torch.float32, output_loading_info=True)
    if absent := info["missing_keys"]:
        raise CheckpointError(f"{path}: the tensors are not those of T5; {len(absent)} missing: {listed(absent)}")
    return tokenizer, encoder.eval()


def transformer_config(tensors: StateDict, published: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of STDiT3Transformer3DModel for these tensors.

    `published` is the original's config.json; of it `input_sq_size` and, where queries and keys are not normalised,
    `num_heads` are used, which leave no trace in the weights. Raises CheckpointError where a size cannot be told.
    """
    width, channels, *patch = sizes.shape(tensors, "x_embedder.proj.weight", 5)
    qk_norm = "spatial_blocks.0.attn.q_norm.weight" in tensors
    if qk_norm:
        (head,) = sizes.shape(tensors, "spatial_blocks.0.attn.q_norm.weight", 1)
        heads = width // max(head, 1)
    else:
        heads = _setting(published, "num_heads", 16)
    if heads < 1 or width % heads:
        raise CheckpointError(f"{heads} attention heads do not divide the width {width} of x_embedder.proj.weight")
    return {
        "num_layers": sizes.depth(tensors, "spatial_blocks"),
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "in_channels": channels,
        "out_channels": sizes.shape(tensors, "final_layer.linear.weight", 2)[0] // math.prod(patch),
        "patch_size": tuple(patch),
        "mlp_ratio": sizes.shape(tensors, "spatial_blocks.0.mlp.fc1.weight", 2)[0] / width,
        "caption_channels": sizes.shape(tensors, "y_embedder.y_proj.fc1.weight", 2)[1],
        "max_text_length": sizes.shape(tensors, "y_embedder.y_embedding", 2)[0],
        "input_sq_size": _setting(published, "input_sq_size", 512),
        "qk_norm": qk_norm,
    }


def vae_config(tensors: StateDict, norm_num_groups: int = 32) -> dict[str, Any]:
    """The settings of AutoencoderKLOpenSora for these tensors. Raises CheckpointError where a size cannot be told."""
    pictures, level = "spatial_vae.module.encoder.down_blocks", "temporal_vae.encoder.block_res_blocks"
    depth = sizes.depth(tensors, pictures)
    levels = sizes.depth(tensors, level)
    spatial = {
        **PICTURES,
        "in_channels": sizes.shape(tensors, "spatial_vae.module.encoder.conv_in.weight", 4)[1],
        "out_channels": sizes.shape(tensors, "spatial_vae.module.decoder.conv_out.weight", 4)[0],
        "down_block_types": ("DownEncoderBlock2D",) * depth,
        "up_block_types": ("UpDecoderBlock2D",) * depth,
        "block_out_channels": tuple(
            sizes.shape(tensors, f"{pictures}.{i}.resnets.0.conv1.weight", 4)[0] for i in range(depth)
        ),
        "layers_per_block": sizes.depth(tensors, f"{pictures}.0.resnets"),
        "latent_channels": sizes.shape(tensors, "spatial_vae.module.post_quant_conv.weight", 4)[1],
        "norm_num_groups": norm_num_groups,
    }
    return {
        "spatial": spatial,
        "channel_widths": tuple(sizes.shape(tensors, f"{level}.{i}.0.conv1.conv.weight", 5)[0] for i in range(levels)),
        "halved": tuple(f"temporal_vae.encoder.conv_blocks.{i}.conv.weight" in tensors for i in range(levels - 1)),
        "blocks_per_level": sizes.depth(tensors, f"{level}.0"),
        "norm_num_groups": norm_num_groups,
        "latent_shift": _values(tensors, "shift"),
        "latent_scale": _values(tensors, "scale"),
    }


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _filled(model: Any, config: dict[str, Any], tensors: StateDict, dtype: torch.dtype | None) -> Any:
    try:
        with torch.device("meta"):
            built = model(**config)
    except ValueError as error:  # torch's and diffusers' layers refuse what does not divide
        raise CheckpointError(f"its sizes do not make a model: {error}") from error
    check_tensors(tensors, {name: tensor.shape for name, tensor in built.state_dict().items()})
    # the tensors become the model's own, so that the weights are in memory once
    built.load_state_dict({name: tensor.to(dtype or torch.float32) for name, tensor in tensors.items()}, assign=True)
    return built.eval().requires_grad_(False)


def _setting(published: Mapping[str, Any], name: str, default: int) -> int:
    value = published.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: {name}={value!r} is not allowed; allowed: an integer >= 1")
    return value


def _values(tensors: StateDict, name: str) -> tuple[float, ...]:
    if name not in tensors:
        raise CheckpointError(f"the checkpoint lacks {name}, which normalises the latents")
    if tensors[name].is_meta:
        return (0.0,) * tensors[name].numel()
    return tuple(float(value) for value in tensors[name].flatten().float())
