"""DiT checkpoints, written to disk in their real layout and loaded again; tests/golden compares their outputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor

from tocache.errors import CheckpointError, OptionError, UnsupportedModelError
from tocache.models.originals import convert_dit, exact_timestep_embedding, load_original

from .layouts import CHANNELS, CLASSES, DEPTH, HEADS, PATCH, WIDTH, dit_shapes, saved


def run_dit(transformer: Any, time: int = 500) -> Tensor:
    size = transformer.config.sample_size
    x = torch.randn(2, CHANNELS, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, CLASSES])
    with torch.no_grad():
        output: Tensor = transformer(x, timestep=torch.tensor([time, time]), class_labels=labels, return_dict=False)[0]
    return output


class TestLoading:
    def test_loads_with_all_sizes_from_the_tensors(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        transformer: Any = load_original(saved(tmp_path, dit), num_heads=HEADS)
        assert isinstance(transformer, DiTTransformer2DModel)
        assert not transformer.training
        expected = {
            "num_attention_heads": HEADS,
            "attention_head_dim": WIDTH // HEADS,
            "in_channels": CHANNELS,
            "out_channels": 2 * CHANNELS,
            "num_layers": DEPTH,
            "sample_size": 8,
            "patch_size": PATCH,
            "num_embeds_ada_norm": CLASSES,
            "norm_eps": 1e-6,
        }
        assert expected.items() <= dict(transformer.config).items()
        assert run_dit(transformer).shape == (2, 2 * CHANNELS, 8, 8)

    def test_puts_fused_and_shared_tensors_in_their_places(self, dit: dict[str, Tensor]) -> None:
        _, converted = convert_dit(dit, num_heads=HEADS)
        q, k, v = (converted[f"transformer_blocks.1.attn1.to_{part}.weight"] for part in "qkv")
        assert torch.equal(torch.cat([q, k, v]), dit["blocks.1.attn.qkv.weight"])
        for i in range(DEPTH):
            table = converted[f"transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table.weight"]
            assert torch.equal(table, dit["y_embedder.embedding_table.weight"])

    @pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1152, 16)])
    def test_knows_the_published_heads(self, width: int, heads: int) -> None:
        state = {name: torch.empty(shape, device="meta") for name, shape in dit_shapes(width, 1).items()}
        config, _ = convert_dit(state, sample_size=32)
        assert config["num_attention_heads"] == heads

    @pytest.mark.parametrize("wrapper", ["ema", "model", "state_dict", "state_dict_ema"])
    def test_unwraps(self, tmp_path: Path, dit: dict[str, Tensor], wrapper: str) -> None:
        # DiT's training script saves its arguments and the optimiser beside the weights
        content = {wrapper: dit, "opt": {"step": 3}, "args": argparse.Namespace(lr=1e-4)}
        transformer: Any = load_original(saved(tmp_path, content), num_heads=HEADS)
        assert torch.equal(transformer.proj_out_2.weight, dit["final_layer.linear.weight"])

    def test_prefers_averaged_weights_unless_told(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        path = saved(tmp_path, {"model": {name: tensor + 1 for name, tensor in dit.items()}, "ema": dit})
        bias = dit["final_layer.linear.bias"]
        averaged: Any = load_original(path, num_heads=HEADS)
        assert torch.equal(averaged.proj_out_2.bias, bias)
        with pytest.raises(CheckpointError, match="no state dict 'best'; it has: ema, model"):
            load_original(path, num_heads=HEADS, weights="best")
        with pytest.raises(CheckpointError, match="pos_embed is not the sine-cosine table"):
            load_original(path, num_heads=HEADS, weights="model")

    def test_reads_safetensors_prefixes_and_dtypes(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        path = tmp_path / "dit.safetensors"
        save_file({f"module.{name}": tensor for name, tensor in dit.items()}, path)
        transformer: Any = load_original(path, num_heads=HEADS, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in transformer.parameters()} == {torch.bfloat16}

    def test_time_is_embedded_as_in_training(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        path = saved(tmp_path, dit)
        exact = load_original(path, num_heads=HEADS)
        stock = load_original(path, num_heads=HEADS, exact_timesteps=False)
        assert not torch.allclose(run_dit(exact), run_dit(stock))
        assert torch.equal(run_dit(exact, time=0), run_dit(stock, time=0))
        exact_timestep_embedding(exact, False)
        assert torch.equal(run_dit(exact), run_dit(stock))
        exact_timestep_embedding(exact)
        assert not torch.equal(run_dit(exact), run_dit(stock))

    def test_other_models_embed_time_exactly_already(self) -> None:
        with pytest.raises(UnsupportedModelError, match="Linear"):
            exact_timestep_embedding(torch.nn.Linear(1, 1))


class TestWhatDoesNotFit:
    def test_missing_key_is_named(self, dit: dict[str, Tensor]) -> None:
        del dit["blocks.1.mlp.fc2.bias"]
        with pytest.raises(CheckpointError, match=r"1 missing: blocks\.1\.mlp\.fc2\.bias"):
            convert_dit(dit, num_heads=HEADS)

    def test_missing_block_is_named(self, dit: dict[str, Tensor]) -> None:
        kept = {name: tensor for name, tensor in dit.items() if not name.startswith("blocks.0.")}
        with pytest.raises(CheckpointError, match=r"10 missing: blocks\.0\.adaLN.*, blocks\.0\.mlp\.fc2\.weight$"):
            convert_dit(kept, num_heads=HEADS)

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            ("blocks.1.attn.qkv.weight", (71, 24), r"has shape \(71, 24\), expected \(72, 24\)"),
            ("blocks.0.mlp.fc1.bias", (1, 96), r"has shape \(1, 96\), expected \(96,\)"),
            ("t_embedder.mlp.0.weight", (24, 255), r"has shape \(24, 255\), expected \(24, 256\)"),
            ("x_embedder.proj.weight", (24, 16), r"has shape \(24, 16\); expected 4 dimensions"),
            ("final_layer.linear.weight", (33, 24), "has 33 rows; expected a multiple of 2²"),
            ("pos_embed", (1, 15, 24), "has 15 tokens; expected a square number"),
            ("pos_embed", (1, 16, 20), r"has shape \(1, 16, 20\); expected \(1, 16, 24\)"),
        ],
    )
    def test_wrong_shape_is_named(
        self, dit: dict[str, Tensor], name: str, shape: tuple[int, ...], message: str
    ) -> None:
        dit[name] = torch.zeros(shape)
        with pytest.raises(CheckpointError, match=f"{name} {message}"):
            convert_dit(dit, num_heads=HEADS)

    def test_sizes_that_leave_no_trace_are_asked_for(self, dit: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError, match=r"hidden size of 24.*give num_heads="):
            convert_dit(dit)
        with pytest.raises(OptionError, match="num_heads=5 is not allowed; allowed: a divisor of the hidden size 24"):
            convert_dit(dit, num_heads=5)
        del dit["pos_embed"]
        with pytest.raises(CheckpointError, match=r"lacks pos_embed.*give sample_size="):
            convert_dit(dit, num_heads=HEADS)
        with pytest.raises(OptionError, match="sample_size=7 is not allowed; allowed: a multiple of the patch size 2"):
            convert_dit(dit, num_heads=HEADS, sample_size=7)
        assert convert_dit(dit, num_heads=HEADS, sample_size=8)[0]["sample_size"] == 8

    def test_learned_positions_are_not_lost_silently(self, dit: dict[str, Tensor]) -> None:
        dit["pos_embed"] = dit["pos_embed"] + 0.1
        with pytest.raises(CheckpointError, match=r"not the sine-cosine table of 4 x 4 tokens: off by up to 0.1"):
            convert_dit(dit, num_heads=HEADS)
