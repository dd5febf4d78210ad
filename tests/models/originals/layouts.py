"""Names and shapes of the originals' tensors, small, and files in the originals' layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor

WIDTH, HEADS, DEPTH, CHANNELS, PATCH, CLASSES = 24, 3, 2, 4, 2, 10
TEXT, TEXT_CHANNELS = 5, 16

Shapes = dict[str, tuple[int, ...]]


def layer(name: str, rows: int, *columns: int) -> Shapes:
    return {f"{name}.weight": (rows, *columns), f"{name}.bias": (rows,)}


def attention_and_mlp(block: str, width: int) -> Shapes:
    return {
        **layer(f"{block}.attn.qkv", 3 * width, width),
        **layer(f"{block}.attn.proj", width, width),
        **layer(f"{block}.mlp.fc1", 4 * width, width),
        **layer(f"{block}.mlp.fc2", width, 4 * width),
    }


def dit_shapes(width: int = WIDTH, depth: int = DEPTH) -> Shapes:
    shapes = {
        **layer("x_embedder.proj", width, CHANNELS, PATCH, PATCH),
        **layer("t_embedder.mlp.0", width, 256),
        **layer("t_embedder.mlp.2", width, width),
        "y_embedder.embedding_table.weight": (CLASSES + 1, width),
        **layer("final_layer.linear", PATCH * PATCH * 2 * CHANNELS, width),
        **layer("final_layer.adaLN_modulation.1", 2 * width, width),
    }
    for i in range(depth):
        shapes |= attention_and_mlp(f"blocks.{i}", width)
        shapes |= layer(f"blocks.{i}.adaLN_modulation.1", 6 * width, width)
    return shapes


def pixart_shapes(sizes_as_conditions: bool = False) -> Shapes:
    width = WIDTH
    shapes = {
        **layer("x_embedder.proj", width, CHANNELS, PATCH, PATCH),
        **layer("t_embedder.mlp.0", width, 256),
        **layer("t_embedder.mlp.2", width, width),
        **layer("t_block.1", 6 * width, width),
        "y_embedder.y_embedding": (TEXT, TEXT_CHANNELS),
        **layer("y_embedder.y_proj.fc1", width, TEXT_CHANNELS),
        **layer("y_embedder.y_proj.fc2", width, width),
        "final_layer.scale_shift_table": (2, width),
        **layer("final_layer.linear", PATCH * PATCH * 2 * CHANNELS, width),
    }
    for i in range(DEPTH):
        shapes |= attention_and_mlp(f"blocks.{i}", width)
        shapes |= layer(f"blocks.{i}.cross_attn.q_linear", width, width)
        shapes |= layer(f"blocks.{i}.cross_attn.kv_linear", 2 * width, width)
        shapes |= layer(f"blocks.{i}.cross_attn.proj", width, width)
        shapes |= {f"blocks.{i}.scale_shift_table": (6, width)}
    for embedder in ("csize_embedder", "ar_embedder") if sizes_as_conditions else ():
        shapes |= layer(f"{embedder}.mlp.0", width // 3, 256)
        shapes |= layer(f"{embedder}.mlp.2", width // 3, width // 3)
    return shapes


def flux_shapes() -> Shapes:
    head, width = 128, 256
    shapes = {
        **layer("img_in", width, 16),
        **layer("txt_in", width, 32),
        **layer("final_layer.linear", 16, width),
        **layer("final_layer.adaLN_modulation.1", 2 * width, width),
    }
    for embedder, inputs in (("time_in", 256), ("vector_in", 24), ("guidance_in", 256)):
        shapes |= layer(f"{embedder}.in_layer", width, inputs) | layer(f"{embedder}.out_layer", width, width)
    for group in ("img", "txt"):
        block = f"double_blocks.0.{group}"
        shapes |= layer(f"{block}_mod.lin", 6 * width, width) | layer(f"{block}_attn.qkv", 3 * width, width)
        shapes |= layer(f"{block}_attn.proj", width, width) | layer(f"{block}_mlp.0", 4 * width, width)
        shapes |= layer(f"{block}_mlp.2", width, 4 * width)
        shapes |= {f"{block}_attn.norm.{which}_norm.scale": (head,) for which in ("query", "key")}
    block = "single_blocks.0"
    shapes |= layer(f"{block}.linear1", 7 * width, width) | layer(f"{block}.linear2", width, 5 * width)
    shapes |= layer(f"{block}.modulation.lin", 3 * width, width)
    return shapes | {f"{block}.norm.{which}_norm.scale": (head,) for which in ("query", "key")}


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def positions(side: int, width: int = WIDTH) -> Tensor:
    table: Tensor = get_2d_sincos_pos_embed(width, side, base_size=side, output_type="pt")
    return table.float()[None]


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "original.pt"
    torch.save(content, path)
    return path
