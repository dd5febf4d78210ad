"""Models in diffusers' format that are loaded whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file, save_file
from torch import nn

from tocache.checkpoints.pretrained import LoadedWhole
from tocache.errors import CheckpointError

FILE = "diffusion_pytorch_model.safetensors"


class Model(LoadedWhole, ModelMixin, ConfigMixin):
    """Two layers."""

    @register_to_config
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Model().save_pretrained(tmp_path)
    return tmp_path


def test_what_fits_is_loaded(folder: Path) -> None:
    loaded: Any = Model.from_pretrained(folder)
    assert not loaded.training
    state = load_file(folder / FILE)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert Model.from_pretrained(folder, torch_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_all_that_does_not_fit_is_named(folder: Path) -> None:
    state = load_file(folder / FILE)
    del state["first.bias"]
    state |= {"third.bias": torch.zeros(3), "second.weight": torch.zeros(3, 4), "second.bias": torch.zeros(5)}
    save_file(state, folder / FILE)
    with pytest.raises(CheckpointError) as caught:
        Model.from_pretrained(folder.parent, subfolder=folder.name)
    assert str(caught.value) == (
        f"{folder}: the tensors are not those of the model; 1 missing: first.bias; 1 unexpected: third.bias; "
        "2 of another shape: second.bias has shape (5,), expected (3,), "
        "second.weight has shape (3, 4), expected (3, 3)"
    )


def test_who_asks_what_is_missing_is_told(folder: Path) -> None:
    state = load_file(folder / FILE)
    del state["first.bias"]
    save_file(state, folder / FILE)
    _, info = Model.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == ["first.bias"]


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        Model.from_pretrained(tmp_path)
