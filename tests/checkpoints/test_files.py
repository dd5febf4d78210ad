"""Files and folders as data: what is read, what is refused, and that no code of theirs runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tocache.checkpoints.files import read_config, read_tensors
from tocache.errors import CheckpointError


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "b.weight": torch.full((2,), 7.0)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


class TestReading:
    @pytest.mark.parametrize("name", ["model.safetensors", "diffusion_pytorch_model.safetensors"])
    def test_safetensors(self, tensors: dict[str, Tensor], tmp_path: Path, name: str) -> None:
        save_file(tensors, tmp_path / name)
        assert same(read_tensors(tmp_path / name), tensors)
        assert same(read_tensors(tmp_path), tensors)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "ema.pt", "model.pt", "model.pth"])
    @pytest.mark.parametrize("archive", [True, False])
    def test_torch_save(self, tensors: dict[str, Tensor], tmp_path: Path, name: str, archive: bool) -> None:
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=archive)
        assert same(read_tensors(str(tmp_path / name)), tensors)
        assert same(read_tensors(tmp_path), tensors)

    @pytest.mark.parametrize("kind", ["safetensors", "bin"])
    def test_shards(self, tensors: dict[str, Tensor], tmp_path: Path, kind: str) -> None:
        stem = "diffusion_pytorch_model" if kind == "safetensors" else "pytorch_model"
        where = {name: f"{stem}-{1 + (i > 0)}-of-2.{kind}" for i, name in enumerate(sorted(tensors))}
        for file in set(where.values()):
            part = {name: tensor for name, tensor in tensors.items() if where[name] == file}
            save = save_file if kind == "safetensors" else torch.save
            save(part, tmp_path / file)
        index = tmp_path / f"{stem}.{kind}.index.json"
        index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
        assert same(read_tensors(tmp_path), tensors)
        assert same(read_tensors(index), tensors)

    def test_one_of_several_state_dicts(self, tensors: dict[str, Tensor], tmp_path: Path) -> None:
        """DiT's training script saves its arguments and the optimiser beside the weights."""
        path = tmp_path / "model.pt"
        other = {name: -tensor for name, tensor in tensors.items()}
        content = {"model": other, "ema": tensors, "opt": {"step": 3}, "args": argparse.Namespace(lr=1e-4)}
        torch.save(content, path)
        assert same(read_tensors(path), tensors)
        assert same(read_tensors(path, "model"), other)
        with pytest.raises(CheckpointError, match="no state dict 'best'; it has: ema, model, opt"):
            read_tensors(path, "best")

    @pytest.mark.parametrize("prefix", ["module.", "model.diffusion_model."])
    def test_a_prefix_of_all_names(self, tensors: dict[str, Tensor], tmp_path: Path, prefix: str) -> None:
        path = tmp_path / "model.safetensors"
        save_file({prefix + name: tensor for name, tensor in tensors.items()}, path)
        assert same(read_tensors(path), tensors)
        mixed = {f"{prefix}a.weight": tensors["a.weight"], "b.weight": tensors["b.weight"]}
        save_file(mixed, path)
        assert same(read_tensors(path), mixed)


class Trap:
    """Pickles into a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


class TestRefused:
    @pytest.mark.parametrize("archive", [True, False])
    def test_pickled_code_is_not_run(self, tensors: dict[str, Tensor], tmp_path: Path, archive: bool) -> None:
        mark, path = tmp_path / "code ran", tmp_path / "model.pt"
        torch.save({**tensors, "trap": Trap(mark)}, path, _use_new_zipfile_serialization=archive)
        with pytest.raises(CheckpointError, match=r"model\.pt .* pickled objects and code are never loaded"):
            read_tensors(tmp_path)
        assert not mark.exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.zeros(1)], "holds a list; expected a state dict"),
            ({"epoch": 3}, "the entry 'epoch' is a int; expected a tensor"),
            ({7: torch.zeros(1)}, "the entry 7 is a Tensor; expected a tensor"),
        ],
    )
    def test_other_content(self, tmp_path: Path, content: object, message: str) -> None:
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=message):
            read_tensors(tmp_path / "model.pt")

    @pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
    def test_damaged_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match=r"is damaged or|is not a readable checkpoint"):
            read_tensors(tmp_path)

    @pytest.mark.parametrize("values", [1, 1000, 100_000])
    def test_cut_off_file(self, tmp_path: Path, values: int) -> None:
        path = tmp_path / "model.pt"
        torch.save({"a": torch.zeros(values)}, path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
            read_tensors(path)

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"holds no weights; looked for model\.safetensors, "):
            read_tensors(tmp_path)
        for name in ("none.pt", "none.safetensors"):
            with pytest.raises(FileNotFoundError):
                read_tensors(tmp_path / name)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"weight_map": {"a": "../secret.bin"}}', r"names files outside of its folder: \.\./secret\.bin"),
            ("{", r"is no index of weights \(JSONDecodeError"),
            ('{"weights": {}}', r"is no index of weights \(KeyError"),
        ],
    )
    def test_index(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "pytorch_model.bin.index.json").write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            read_tensors(tmp_path)


class TestConfig:
    def test_of_a_folder_or_beside_a_file(self, tmp_path: Path) -> None:
        assert read_config(tmp_path) == {}
        (tmp_path / "config.json").write_text('{"depth": 2}', encoding="utf-8")
        assert read_config(tmp_path) == read_config(tmp_path / "model.pt") == {"depth": 2}

    @pytest.mark.parametrize(("content", "message"), [("{", "not readable JSON"), ("[]", "holds a list; expected an")])
    def test_damaged(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            read_config(tmp_path)
