"""Reading the weights of a published folder as data: tensors come out, code never runs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tocache.errors import CheckpointError

_INDEX = ".index.json"  # of weights in several files: which tensor is in which
_NAMES = (
    *("model.safetensors", f"model.safetensors{_INDEX}", "diffusion_pytorch_model.safetensors"),
    *("pytorch_model.bin", f"pytorch_model.bin{_INDEX}", "ema.pt", "model.pt", "model.pth"),
)
_WRAPPERS = ("ema", "state_dict", "model")
_SHOWN = 12  # names in one message


def read_config(path: Path) -> dict[str, Any]:
    """What `config.json` beside the weights says, or nothing where there is none. Raises CheckpointError."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.exists():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} holds a {type(config).__name__}; expected an object")
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file (`.safetensors`, or what torch.save wrote) or of the folder that holds one, by name.

    Raises CheckpointError for a folder without weights, and for a file that needs pickled code to load, is damaged,
    or holds no state dict; OSError where a file cannot be opened.
    """
    if path.is_dir():
        found = next((path / name for name in _NAMES if (path / name).exists()), None)
        if found is None:
            raise CheckpointError(f"{path} holds no weights; looked for {', '.join(_NAMES)}")
        path = found
    if not path.name.endswith(_INDEX):
        return _read_file(path)
    tensors: dict[str, Tensor] = {}
    for name in _shards(path):
        tensors.update(_read_file(path.parent / name))
    return tensors


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError, naming them, unless both hold the same names with the same shapes."""
    problems = []
    if missing := expected.keys() - tensors.keys():
        problems.append(f"{len(missing)} missing: {shown(missing)}")
    if unexpected := tensors.keys() - expected.keys():
        problems.append(f"{len(unexpected)} unexpected: {shown(unexpected)}")
    wrong = [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name].shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} of another shape: {shown(wrong)}")
    if problems:
        raise CheckpointError(f"the tensors of {path} are not those of its model; " + "; ".join(problems))


def shown(names: Iterable[str]) -> str:
    """`names` sorted and joined, the first of them where there are many."""
    ordered = sorted(names)
    rest = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weights ({type(error).__name__})") from error
    if outside:
        raise CheckpointError(f"{index} names files outside of its folder: {shown(outside)}")
    return names


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path))
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        message = f"{path} is damaged or holds more than tensors; pickled objects and code are never loaded"
        raise CheckpointError(message) from error
    except Exception as error:  # damaged bytes lead the readers to any error at all
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason})") from error
    return _state_dict(content, path)


def _can_be_mapped(path: Path) -> bool:
    """Whether the file is torch.save's archive, whose tensors can stay on disk until they are used."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict")
    content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: the entry {name!r} is a {type(value).__name__}; expected a tensor")
    return {name.removeprefix("module."): value for name, value in content.items()}
