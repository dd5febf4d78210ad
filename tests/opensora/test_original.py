"""Checkpoints with exactly the original's names and shapes: real ones on the meta device, tiny ones with values."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from torch import Tensor

from tocache.checkpoints.checks import check_tensors
from tocache.checkpoints.files import read_tensors
from tocache.demo.random_text import tiny_t5_encoder
from tocache.errors import CheckpointError
from tocache.opensora import (
    AutoencoderKLOpenSora,
    STDiT3Transformer3DModel,
    load_original_transformer,
    load_original_vae,
)
from tocache.opensora.original import load_original_text, transformer_config, vae_config

Shapes = dict[str, tuple[int, ...]]


def layer(name: str, rows: int, *columns: int) -> Shapes:
    return {f"{name}.weight": (rows, *columns), f"{name}.bias": (rows,)}


def stdit_shapes(width: int, depth: int, head: int, captions: int, length: int) -> Shapes:
    """The parameters of Open-Sora v1.2.0's STDiT3, written out from its source."""
    shapes: Shapes = {
        "rope.freqs": (head // 2,),
        "y_embedder.y_embedding": (length, captions),
        **layer("y_embedder.y_proj.fc1", width, captions),
        **layer("y_embedder.y_proj.fc2", width, width),
        **layer("x_embedder.proj", width, 4, 1, 2, 2),
        **layer("t_embedder.mlp.0", width, 256),
        **layer("t_embedder.mlp.2", width, width),
        **layer("fps_embedder.mlp.0", width, 256),
        **layer("fps_embedder.mlp.2", width, width),
        **layer("t_block.1", 6 * width, width),
        "final_layer.scale_shift_table": (2, width),
        **layer("final_layer.linear", 32, width),
    }
    for stack in ("spatial_blocks", "temporal_blocks"):
        for block in (f"{stack}.{i}" for i in range(depth)):
            shapes |= {f"{block}.scale_shift_table": (6, width)}
            shapes |= {f"{block}.attn.{norm}.weight": (head,) for norm in ("q_norm", "k_norm")}
            shapes |= layer(f"{block}.attn.qkv", 3 * width, width) | layer(f"{block}.attn.proj", width, width)
            shapes |= layer(f"{block}.cross_attn.q_linear", width, width)
            shapes |= layer(f"{block}.cross_attn.kv_linear", 2 * width, width)
            shapes |= layer(f"{block}.cross_attn.proj", width, width)
            shapes |= layer(f"{block}.mlp.fc1", 4 * width, width) | layer(f"{block}.mlp.fc2", width, 4 * width)
    return shapes


def residual(name: str, inputs: int, outputs: int) -> Shapes:
    shapes: Shapes = {
        **layer(f"{name}.norm1", inputs),
        f"{name}.conv1.conv.weight": (outputs, inputs, 3, 3, 3),
        **layer(f"{name}.norm2", outputs),
        f"{name}.conv2.conv.weight": (outputs, outputs, 3, 3, 3),
    }
    return shapes if inputs == outputs else shapes | {f"{name}.conv3.conv.weight": (outputs, inputs, 1, 1, 1)}


def temporal_shapes(base: int, count: int) -> Shapes:
    """The parameters of Open-Sora v1.2.0's temporal autoencoder, written out from its source."""
    widths = [base, 2 * base, 2 * base, 4 * base]
    shapes: Shapes = {
        "encoder.conv_in.conv.weight": (base, 4, 3, 3, 3),
        **layer("encoder.conv_blocks.1.conv", widths[1], widths[1], 3, 3, 3),
        **layer("encoder.conv_blocks.2.conv", widths[2], widths[2], 3, 3, 3),
        **layer("encoder.norm1", widths[3]),
        **layer("encoder.conv2.conv", 8, widths[3], 1, 1, 1),
        **layer("quant_conv.conv", 8, 8, 1, 1, 1),
        **layer("post_quant_conv.conv", 4, 4, 1, 1, 1),
        **layer("decoder.conv1.conv", widths[3], 4, 3, 3, 3),
        **layer("decoder.conv_blocks.1.conv", 2 * widths[2], widths[2], 3, 3, 3),
        **layer("decoder.conv_blocks.2.conv", 2 * widths[3], widths[3], 3, 3, 3),
        **layer("decoder.norm1", base),
        **layer("decoder.conv_out.conv", 4, base, 3, 3, 3),
    }
    for j in range(count):
        for half in ("encoder", "decoder"):
            shapes |= residual(f"{half}.res_blocks.{j}", widths[3], widths[3])
        for i in range(4):
            before, after = (widths[max(i - 1, 0)], widths[min(i + 1, 3)]) if j == 0 else (widths[i], widths[i])
            shapes |= residual(f"encoder.block_res_blocks.{i}.{j}", before, widths[i])
            shapes |= residual(f"decoder.block_res_blocks.{i}.{j}", after, widths[i])
    return {f"temporal_vae.{name}": shape for name, shape in shapes.items()}


def values(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture
def stdit() -> dict[str, Tensor]:
    return values(stdit_shapes(width=24, depth=2, head=12, captions=16, length=5))


def folder(path: Path, tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    save_file(tensors, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


class TestTransformer:
    def test_real_names_and_shapes(self) -> None:
        tensors = on_meta(stdit_shapes(width=1152, depth=28, head=72, captions=4096, length=300))
        config = transformer_config(tensors, {})
        with torch.device("meta"):
            model, default = STDiT3Transformer3DModel(**config), STDiT3Transformer3DModel()
        check_tensors(tensors, {name: tensor.shape for name, tensor in model.state_dict().items()})
        model.load_state_dict(tensors, strict=True, assign=True)
        assert {name: default.config[name] for name in config} == config

    def test_tiny_values(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        model = load_original_transformer(folder(tmp_path, stdit, {"input_sq_size": 256, "depth": 2}))
        assert not model.training
        assert model.config.input_sq_size == 256
        assert model.state_dict().keys() == stdit.keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, stdit[name]), name
        with torch.no_grad():
            assert model(torch.ones(1, 4, 2, 4, 4), torch.tensor([3.0]), torch.ones(1, 5, 16)).sample.isfinite().all()

    def test_rotary_table_may_be_left_out(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        del stdit["rope.freqs"]
        freqs = load_original_transformer(folder(tmp_path, stdit)).rope.freqs
        torch.testing.assert_close(freqs, 10_000 ** -(torch.arange(6) / 6))

    def test_without_query_norms_the_config_tells_the_heads(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        kept = {name: tensor for name, tensor in stdit.items() if "_norm." not in name}
        model = load_original_transformer(folder(tmp_path, kept, {"num_heads": 2}))
        assert (model.config.num_attention_heads, model.config.qk_norm) == (2, False)


class TestAutoencoder:
    def spatial(self, width: Callable[[int], int]) -> Shapes:
        """Of diffusers' AutoencoderKL at the sizes of the published one, divided."""
        from diffusers import AutoencoderKL

        from tocache.opensora.vae import PICTURES

        channels = tuple(width(count) for count in PICTURES["block_out_channels"])
        with torch.device("meta"):
            module = AutoencoderKL(**{**PICTURES, "block_out_channels": channels, "norm_num_groups": 2})
        return {f"spatial_vae.module.{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}

    def shapes(self, part: int = 1) -> Shapes:
        """All names and shapes of OpenSora-VAE-v1.2; with `part`, of so many times fewer channels and one block."""
        shapes = {"scale": (1, 4, 1, 1, 1), "shift": (1, 4, 1, 1, 1), **self.spatial(lambda count: count // part)}
        return shapes | temporal_shapes(128 // part, 4 if part == 1 else 1)

    def test_real_names_and_shapes(self) -> None:
        tensors = on_meta(self.shapes())
        config = vae_config(tensors)
        with torch.device("meta"):
            vae, default = AutoencoderKLOpenSora(**config), AutoencoderKLOpenSora()
        check_tensors(tensors, {name: tensor.shape for name, tensor in vae.state_dict().items()})
        vae.load_state_dict(tensors, strict=True, assign=True)
        same = ("channel_widths", "halved", "blocks_per_level", "norm_num_groups", "spatial", "scaling_factor")
        assert [vae.config[name] for name in same] == [default.config[name] for name in same]

    def test_tiny_values(self, tmp_path: Path) -> None:
        tensors = values(self.shapes(part=32))
        vae = load_original_vae(folder(tmp_path, tensors), norm_num_groups=2, dtype=torch.float32)
        assert vae.state_dict().keys() == tensors.keys()
        assert vae.config.latent_scale == pytest.approx(tensors["scale"].flatten().tolist())
        for name, tensor in vae.state_dict().items():
            assert torch.equal(tensor, tensors[name]), name
        with torch.no_grad():
            assert vae.decode(torch.ones(1, 4, 5, 2, 2), 17).shape == (1, 3, 17, 16, 16)

    def test_groups_that_do_not_divide_the_channels(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="its sizes do not make a model: num_channels"):
            load_original_vae(folder(tmp_path, values(self.shapes(part=32))))

    def test_missing_half_is_named(self, tmp_path: Path) -> None:
        tensors = values(temporal_shapes(4, 1))
        with pytest.raises(CheckpointError, match=r"no tensors named spatial_vae\.module\.encoder\.down_blocks\.0"):
            load_original_vae(folder(tmp_path, tensors))


class TestText:
    @pytest.fixture
    def published(self, tmp_path: Path) -> Path:
        """T5 as it was published: a SentencePiece model, and weights that torch.save wrote, in shards."""
        corpus = ["a red ring moving left over the sea", "two blue squares", "a waterfall in the forest"] * 20
        SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_prefix=str(tmp_path / "spiece"),
            vocab_size=30,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        settings = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        encoder = tiny_t5_encoder(range(140))
        encoder.config.save_pretrained(tmp_path)
        state, files = encoder.state_dict(), ("pytorch_model-1.bin", "pytorch_model-2.bin")
        where = {name: files[i % 2] for i, name in enumerate(sorted(state))}
        for file in files:
            torch.save({name: state[name] for name in state if where[name] == file}, tmp_path / file)
        index = {"metadata": {"total_size": 0}, "weight_map": where}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
        return tmp_path

    def test_published_folder(self, published: Path) -> None:
        tokenizer, encoder = load_original_text(published, dtype=torch.bfloat16)
        pieces = SentencePieceProcessor(model_file=str(published / "spiece.model"))
        assert tokenizer("a red ring").input_ids == [*pieces.encode("a red ring"), tokenizer.eos_token_id]
        assert (encoder.dtype, encoder.training) == (torch.bfloat16, False)
        state = read_tensors(published)
        assert torch.equal(encoder.get_input_embeddings().weight, state["shared.weight"].bfloat16())

    def test_missing_tensors_are_named(self, published: Path) -> None:
        file = published / "pytorch_model-1.bin"
        state = torch.load(file)
        name = next(name for name in state if name.endswith("wi_0.weight"))
        torch.save({key: state[key] for key in state.keys() - {name}}, file)
        with pytest.raises(CheckpointError, match=rf"^{re.escape(str(published))}: .*1 missing: {re.escape(name)}"):
            load_original_text(published)

    def test_packages_that_read_the_tokenizer(self, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(package: str) -> str:
            raise importlib.metadata.PackageNotFoundError(package)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        with pytest.raises(
            CheckpointError, match=r"spiece\.model is read by sentencepiece and protobuf, not installed: pip install"
        ):
            load_original_text(published)


class TestWhatDoesNotFit:
    def test_all_that_is_wrong_is_named(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        del stdit["temporal_blocks.1.mlp.fc2.bias"]
        stdit["pos_embed_temporal"] = torch.zeros(1)
        stdit["fps_embedder.mlp.0.weight"] = torch.zeros(24, 255)
        with pytest.raises(CheckpointError) as caught:
            load_original_transformer(folder(tmp_path, stdit))
        for part in (
            "1 missing: temporal_blocks.1.mlp.fc2.bias",
            "1 unexpected: pos_embed_temporal",
            "1 of another shape: fps_embedder.mlp.0.weight has shape (24, 255), expected (24, 256)",
        ):
            assert part in str(caught.value)

    def test_what_tells_the_sizes_is_named(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        del stdit["y_embedder.y_embedding"]
        with pytest.raises(CheckpointError, match=r"lacks y_embedder\.y_embedding, which tells the model's sizes"):
            load_original_transformer(folder(tmp_path, stdit))
        stdit["x_embedder.proj.weight"] = torch.zeros(24, 4, 2, 2)
        with pytest.raises(CheckpointError, match=r"x_embedder\.proj\.weight has shape .* expected 5 dimensions"):
            load_original_transformer(folder(tmp_path, stdit))

    @pytest.mark.parametrize("load", [load_original_transformer, load_original_vae])
    def test_pickled_code_is_refused(self, stdit: dict[str, Tensor], tmp_path: Path, load: Callable[..., Any]) -> None:
        torch.save({**stdit, "code": print}, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match="pickled objects and code are never loaded"):
            load(tmp_path)

    def test_settings_that_cannot_be(self, stdit: dict[str, Tensor], tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="input_sq_size='512' is not allowed; allowed: an integer >= 1"):
            load_original_transformer(folder(tmp_path, stdit, {"input_sq_size": "512"}))
        kept = {name: tensor for name, tensor in stdit.items() if "_norm." not in name}
        with pytest.raises(CheckpointError, match="5 attention heads do not divide the width 24"):
            load_original_transformer(folder(tmp_path, kept, {"num_heads": 5}))

    @pytest.mark.parametrize("load", [load_original_transformer, load_original_vae])
    def test_the_folder_is_named(self, stdit: dict[str, Tensor], tmp_path: Path, load: Callable[..., Any]) -> None:
        del stdit["x_embedder.proj.weight"]
        with pytest.raises(CheckpointError, match=rf"^{re.escape(str(tmp_path))}: the checkpoint (lacks|has)"):
            load(folder(tmp_path, stdit))
