"""Tiny models of the real classes, the same weights each time."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from tocache.demo.random_text import TEXT_DIM, tiny_t5_encoder, tiny_t5_tokenizer
from tocache.opensora import AutoencoderKLOpenSora, OpenSoraPipeline, RFlowScheduler, STDiT3Transformer3DModel

torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
TEXT_LENGTH = 24


@pytest.fixture
def tiny_transformer() -> Callable[..., Any]:
    """Builds an STDiT3 of 2 + 2 blocks; options overrule its settings."""

    def build(**options: Any) -> Any:
        settings = {
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "caption_channels": TEXT_DIM,
            "max_text_length": TEXT_LENGTH,
        }
        torch.manual_seed(1)
        return STDiT3Transformer3DModel(**settings | options).eval()

    return build


@pytest.fixture
def tiny_vae() -> Callable[..., Any]:
    """Builds an autoencoder of few channels; options overrule its settings."""

    def build(**options: Any) -> Any:
        spatial = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (4, 4, 4, 8),
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 2,
        }
        settings = {
            "spatial": spatial,
            "channel_widths": (4, 8, 8, 8),
            "blocks_per_level": 1,
            "norm_num_groups": 2,
        }
        torch.manual_seed(2)
        return AutoencoderKLOpenSora(**settings | options).eval()

    return build


@pytest.fixture
def pipe(tiny_transformer: Callable[..., Any], tiny_vae: Callable[..., Any]) -> Any:
    """A whole pipeline; it does not show its progress."""
    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer()
    pipeline = OpenSoraPipeline(tokenizer, tiny_t5_encoder(tokenizer), tiny_transformer(), tiny_vae(), RFlowScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


SMALL: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "num_frames": 20,
    "num_inference_steps": 3,
    "clean_caption": False,
    "aesthetic_score": None,
    "output_type": "pt",
}


def draw(pipe: Any, prompt: Any = "a red ring", *, seed: int | list[int] = 0, **options: Any) -> Any:
    seeds = seed if isinstance(seed, list) else [seed]
    generators = [torch.Generator().manual_seed(one) for one in seeds]
    arguments = {"generator": generators if len(seeds) > 1 else generators[0]}
    return pipe(prompt, **SMALL | arguments | options).frames


def picture(width: int = 90, height: int = 60) -> PIL.Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


@pytest.fixture(scope="session")
def golden() -> Any:
    """The description of the published runs."""
    return json.loads((GOLDEN / "opensora.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden_weights(golden: Any) -> dict[str, Tensor]:
    """The original's parameters by their names, after the rule in the golden data's README."""

    def fill(name: str, shape: list[int]) -> Tensor:
        fan_in = math.prod(shape[1:])
        offset, scale = 0.0, 1 / math.sqrt(fan_in) if len(shape) >= 2 else 0.1
        for part, its_offset, its_scale in golden["overrides"]:
            if part in name:
                offset, scale = its_offset, its_scale if its_scale >= 0 else -its_scale / math.sqrt(fan_in)
                break
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        return torch.from_numpy((offset + scale * z).astype(np.float32))

    return {name: fill(name, shape) for name, shape in golden["shapes"].items()}


def arrays(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="session")
def forwards() -> dict[str, Any]:
    """Single uncached forwards of the published code."""
    return arrays("opensora_forward.npz")


@pytest.fixture(scope="session")
def published_run() -> dict[str, Any]:
    """A run of the published code, cached and uncached."""
    return arrays("opensora_rflow30_toca_t96.npz")
