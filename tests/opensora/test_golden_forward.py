"""Uncached equality with the published code on its own small random model (tests/golden/data/opensora*)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tocache.opensora import RFlowScheduler, load_original_transformer
from tocache.opensora.embeddings import position_table

TOLERANCE = 1e-5  # measured: 2.5e-7 to 4e-7
TEXT = 11  # tokens of the golden caption
SIZE = {"fps": 24.0, "height": 64, "width": 96}


@pytest.fixture(scope="module")
def transformer(golden_weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("stdit")
    save_file(golden_weights, folder / "model.safetensors")
    return load_original_transformer(folder)


def relative(ours: Tensor, recorded: Any) -> float:
    return float(np.abs(ours.numpy() - recorded).max() / np.abs(recorded).max())


@pytest.mark.parametrize("time", [1000.0, 500.25, 33.0])
def test_forward(transformer: Any, forwards: dict[str, Any], time: float) -> None:
    recorded = forwards[f"out_t{time}"]
    x = np.random.default_rng(5).standard_normal((2, 4, *recorded.shape[2:])).astype(np.float32)
    mask = (torch.arange(20) < TEXT)[None]  # one row, as the original takes it
    with torch.no_grad():
        sample = transformer(
            torch.from_numpy(x), torch.tensor([time]), torch.from_numpy(forwards["y"]), mask, **SIZE
        ).sample
    assert sample.dtype == torch.float32
    assert relative(sample, recorded) < TOLERANCE


def test_tables(transformer: Any, forwards: dict[str, Any]) -> None:
    scale = (64 * 96) ** 0.5 / 512
    table = position_table(4, 6, 48, scale=scale, dtype=torch.float32, device=torch.device("cpu"))
    assert np.array_equal(table.numpy(), forwards["pos_embed"][0])
    assert np.array_equal(transformer.rope.freqs.numpy(), forwards["rope_freqs"])


def test_uncached_run(transformer: Any, published_run: dict[str, Any]) -> None:
    """30 steps with guidance, by the scheduler alone: its times are equal to the last bit."""
    scheduler = RFlowScheduler()
    scheduler.set_timesteps(30, height=64, width=96, num_frames=17)
    assert np.array_equal(scheduler.timesteps.numpy().astype(np.float64), published_run["timesteps"])
    caption = torch.from_numpy(published_run["caption"])[:, 0]
    text = torch.cat([caption, transformer.y_embedder.y_embedding[None]])[:, :TEXT]
    z = torch.from_numpy(published_run["noise"])
    for i, time in enumerate(scheduler.timesteps):
        with torch.no_grad():
            velocity = transformer(z.repeat(2, 1, 1, 1, 1), time.expand(2), text, **SIZE).sample[:, :4]
        assert relative(velocity, published_run["model_out_uncached"][i]) < TOLERANCE
        cond, uncond = velocity.chunk(2)
        z = scheduler.step(uncond + 7.0 * (cond - uncond), time, z).prev_sample
    assert relative(z, published_run["final_uncached"]) < TOLERANCE


def test_a_file_does_as_well_as_a_folder(golden_weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"ema": golden_weights}, tmp_path / "stdit.pth")
    loaded = load_original_transformer(tmp_path / "stdit.pth", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.max_text_length == 20
    assert loaded.config.num_layers == 28
