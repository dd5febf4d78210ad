"""Original checkpoints, written to disk in their real layout and loaded again; tests/golden compares their outputs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, PixArtTransformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from safetensors.torch import save_file
from torch import Tensor

from tocache.errors import CheckpointError, OptionError, UnsupportedModelError
from tocache.models.originals import (
    convert_dit,
    convert_flux,
    convert_pixart,
    exact_timestep_embedding,
    load_original,
    negative_caption,
)

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


@pytest.fixture
def dit() -> dict[str, Tensor]:
    return {**random_state(dit_shapes()), "pos_embed": positions(4)}


@pytest.fixture
def pixart() -> dict[str, Tensor]:
    return {**random_state(pixart_shapes()), "pos_embed": positions(4)}


@pytest.fixture
def flux() -> dict[str, Tensor]:
    return random_state(flux_shapes())


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "original.pt"
    torch.save(content, path)
    return path


def run_dit(transformer: Any, time: int = 500) -> Tensor:
    size = transformer.config.sample_size
    x = torch.randn(2, CHANNELS, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, CLASSES])
    with torch.no_grad():
        output: Tensor = transformer(x, timestep=torch.tensor([time, time]), class_labels=labels, return_dict=False)[0]
    return output


class TestDiT:
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


class TestPixArt:
    @pytest.mark.parametrize(("side", "scale"), [(32, 1), (64, 1), (128, 2)])
    def test_loads_every_published_size(self, tmp_path: Path, side: int, scale: int) -> None:
        large = side == 128
        state = {**random_state(pixart_shapes(large)), "pos_embed": positions(side // PATCH)}
        transformer: Any = load_original(saved(tmp_path, {"state_dict": state}), num_heads=HEADS)
        assert isinstance(transformer, PixArtTransformer2DModel)
        assert transformer.config.sample_size == side
        assert transformer.config.interpolation_scale == scale
        assert transformer.config.use_additional_conditions is large
        assert transformer.config.caption_channels == TEXT_CHANNELS
        if large:
            embedder = transformer.adaln_single.emb.aspect_ratio_embedder
            assert torch.equal(embedder.linear_2.weight, state["ar_embedder.mlp.2.weight"])

    def test_keeps_the_negative_caption(self, tmp_path: Path, pixart: dict[str, Tensor]) -> None:
        transformer: Any = load_original(saved(tmp_path, pixart), num_heads=HEADS)
        assert torch.equal(transformer.negative_caption, pixart["y_embedder.y_embedding"])
        assert "negative_caption" not in transformer.state_dict()
        del pixart["y_embedder.y_embedding"]
        assert negative_caption(pixart) is None
        assert load_original(saved(tmp_path, pixart), num_heads=HEADS).negative_caption is None

    def test_sample_size_may_be_given(self, pixart: dict[str, Tensor]) -> None:
        assert convert_pixart(pixart, num_heads=HEADS, sample_size=64)[0]["sample_size"] == 64


class TestFlux:
    def test_loads(self, tmp_path: Path, flux: dict[str, Tensor]) -> None:
        flux |= {"single_blocks.0.mlp_in.weight": torch.zeros(4, 4)}
        transformer: Any = load_original(saved(tmp_path, flux))
        assert isinstance(transformer, FluxTransformer2DModel)
        assert transformer.config.guidance_embeds
        block = transformer.single_transformer_blocks[0]
        parts = (block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp)
        fused = torch.cat([part.weight for part in parts])
        assert torch.equal(fused, flux["single_blocks.0.linear1.weight"])
        shift, scale = flux["final_layer.adaLN_modulation.1.bias"].chunk(2)
        assert torch.equal(transformer.norm_out.linear.bias, torch.cat([scale, shift]))

    def test_its_tensors_tell_all(self, tmp_path: Path, flux: dict[str, Tensor]) -> None:
        with pytest.raises(OptionError, match="num_heads: not an option of a FLUX checkpoint"):
            load_original(saved(tmp_path, flux), num_heads=2)

    def test_axes_must_fill_a_head(self, flux: dict[str, Tensor]) -> None:
        with pytest.raises(OptionError, match="three even numbers whose sum is 128"):
            convert_flux(flux, axes_dims_rope=(16, 56, 54))


class TestWhatDoesNotFit:
    def test_missing_key_is_named(self, dit: dict[str, Tensor]) -> None:
        del dit["blocks.1.mlp.fc2.bias"]
        with pytest.raises(CheckpointError, match=r"1 missing: blocks\.1\.mlp\.fc2\.bias"):
            convert_dit(dit, num_heads=HEADS)

    def test_missing_block_is_named(self, dit: dict[str, Tensor]) -> None:
        kept = {name: tensor for name, tensor in dit.items() if not name.startswith("blocks.0.")}
        with pytest.raises(CheckpointError, match=r"10 missing: blocks\.0\.adaLN_modulation.* and 2 more"):
            convert_dit(kept, num_heads=HEADS)

    def test_unexpected_key_is_named(self, pixart: dict[str, Tensor]) -> None:
        pixart["blocks.0.attn.sr.weight"] = torch.zeros(1)  # PixArt-Σ's key and value compression
        with pytest.raises(CheckpointError, match=r"1 unexpected: blocks\.0\.attn\.sr\.weight"):
            convert_pixart(pixart, num_heads=HEADS)

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            ("blocks.1.attn.qkv.weight", (71, 24), r"has shape \(71, 24\); expected \(72, 24\), to become transformer"),
            ("blocks.0.mlp.fc1.bias", (1, 96), r"has shape \(1, 96\); expected \(96,\)"),
            ("t_embedder.mlp.0.weight", (24, 255), r"has shape \(24, 255\); expected \(24, 256\)"),
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

    def test_another_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"not a DiT, PixArt-α or FLUX checkpoint.*down.weight"):
            load_original(saved(tmp_path, {"down.weight": torch.zeros(1)}))

    @pytest.mark.parametrize(
        ("content", "message"),
        [([torch.zeros(1)], "holds a list; expected a state dict"), ({"epoch": 3}, "'epoch' is a int; expected a ten")],
    )
    def test_other_content_is_refused(self, tmp_path: Path, content: object, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            load_original(saved(tmp_path, content))


class Trap:
    """Pickles into a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


class TestFiles:
    def test_pickled_code_is_refused_and_not_run(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        mark = tmp_path / "code ran"
        with pytest.raises(CheckpointError, match="pickled objects and code are never loaded"):
            load_original(saved(tmp_path, {**dit, "trap": Trap(mark)}))
        assert not mark.exists()

    @pytest.mark.parametrize("name", ["text.pt", "text.safetensors"])
    def test_file_that_is_no_checkpoint_is_refused(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match=r"is damaged or|is not a readable checkpoint"):
            load_original(path)

    def test_cut_off_file_is_refused(self, tmp_path: Path, dit: dict[str, Tensor]) -> None:
        path = saved(tmp_path, dit)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match=r"is not a readable checkpoint \(RuntimeError"):
            load_original(path)

    def test_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load_original(tmp_path / "none.pt")
