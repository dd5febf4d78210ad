"""load_original: which family a file is of, and what it says where the file is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tocache.errors import CheckpointError
from tocache.models.originals import load_original

from .layouts import HEADS, saved


def test_a_folder_does_as_well_as_a_file(tmp_path: Path, dit: dict[str, Tensor]) -> None:
    save_file(dit, tmp_path / "model.safetensors")
    transformer: Any = load_original(tmp_path, num_heads=HEADS)
    assert torch.equal(transformer.proj_out_2.bias, dit["final_layer.linear.bias"])


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a DiT, PixArt-α or FLUX checkpoint.*down.weight"):
        load_original(saved(tmp_path, {"down.weight": torch.zeros(1)}))


def test_errors_begin_with_the_file(tmp_path: Path, dit: dict[str, Tensor]) -> None:
    del dit["blocks.1.mlp.fc2.bias"]
    path = saved(tmp_path, dit)
    with pytest.raises(CheckpointError, match=rf"^{re.escape(str(path))}: .*1 missing: blocks\.1\.mlp\.fc2\.bias"):
        load_original(path, num_heads=HEADS)


def test_pickled_code_is_refused(tmp_path: Path, dit: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="pickled objects and code are never loaded"):
        load_original(saved(tmp_path, {**dit, "code": print}))
