"""What the tests of the training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tocache.demo.train.vae import new_vae


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained autoencoder of pictures as a run would export it."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    vae = new_vae()
    vae.register_to_config(scaling_factor=1.0)
    vae.save_pretrained(folder)
    return folder
