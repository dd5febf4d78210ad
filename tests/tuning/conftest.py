"""Pipelines so small that whole tunings of them are quick, as folders, and prompts for them as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocache.demo.random_pipelines import random_class_pipeline


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(model, prompts): a class-conditional pipeline of 3 blocks that draws 32 × 32 pixels, and six classes."""
    return _written(tmp_path_factory.mktemp("tiny"), depth=3)


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same with so many blocks that they take most of the time."""
    return _written(tmp_path_factory.mktemp("deep"), depth=12)


def _written(folder: Path, depth: int) -> tuple[Path, Path]:
    random_class_pipeline(depth=depth, hidden=32, heads=2, sample_size=4).save_pretrained(folder / "model")
    (folder / "prompts.txt").write_text("".join(f"{number}\n" for number in (207, 270, 360, 1, 2, 3)))
    return folder / "model", folder / "prompts.txt"
