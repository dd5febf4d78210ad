"""What the tests of sets share: the small extractor, and folders of its pictures."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tiny.py, which `--features tiny:extract` finds as well."""
    spec = importlib.util.spec_from_file_location("tiny", HERE / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes pictures (N, H, W, 3) as PNG files into a folder below tmp_path."""

    def write(pictures: np.ndarray[Any, Any], name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{i:05d}.png")
        return folder

    return write
