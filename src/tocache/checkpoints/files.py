"""Reading a checkpoint, one file or a folder, as data: tensors come out, code never runs."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tocache.checkpoints.checks import listed
from tocache.errors import CheckpointError

_INDEX = ".index.json"  # of weights in several files: which tensor is in which
_NAMES = (
    *("model.safetensors", f"model.safetensors{_INDEX}"),
    *("diffusion_pytorch_model.safetensors", f"diffusion_pytorch_model.safetensors{_INDEX}"),
    *("pytorch_model.bin", f"pytorch_model.bin{_INDEX}", "ema.pt", "model.pt", "model.pth"),
)
_WRAPPERS = ("ema", "state_dict", "state_dict_ema", "model")  # in the order of preference
_PREFIXES = ("module.", "model.diffusion_model.")  # of data-parallel training and of bundled checkpoints


def read_tensors(path: str | Path, weights: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their original names.

    `path` is a `.safetensors` file, anything that torch.save wrote, the index of weights in several files, or a
    folder that holds one of these under a usual name. A file of several state dicts gives the one named `weights`, by
    default the first of `ema`, `state_dict`, `state_dict_ema` and `model`, which is what the originals' sampling
    scripts read.

    Raises CheckpointError for a folder without weights, and for a file that needs pickled code to load, is damaged,
    or holds no state dict; OSError where a file cannot be opened.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_of(path)
    files = [path]
    if path.name.endswith(_INDEX):
        files = [path.parent / name for name in _shards(path)]
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(_tensors(_unwrapped(_read(file), weights, file), file))
    return _without_prefix(state)


def read_config(path: str | Path) -> dict[str, Any]:
    """What `config.json` in a folder, or beside a file, says; nothing where there is none. Raises CheckpointError."""
    path = Path(path)
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


def _weights_of(folder: Path) -> Path:
    found = next((folder / name for name in _NAMES if (folder / name).exists()), None)
    if found is None:
        raise CheckpointError(f"{folder} holds no weights; looked for {', '.join(_NAMES)}")
    return found


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weights ({type(error).__name__})") from error
    if outside:
        raise CheckpointError(f"{index} names files outside of its folder: {listed(outside)}")
    return names


def _read(path: Path) -> Any:
    with path.open("rb") as file:  # the readers' own errors do not tell a file that is not there from a damaged one
        archive = file.read(2) == b"PK"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DiT's training script saves its arguments beside the weights: a Namespace holds values and runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            # tensors of torch.save's archive can stay on disk until they are used
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        message = f"{path} is damaged or holds more than tensors; pickled objects and code are never loaded"
        raise CheckpointError(message) from error
    except Exception as error:  # damaged bytes lead the readers to any error at all: KeyError, EOFError, …
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason})") from error


def _unwrapped(content: Any, weights: str | None, path: Path) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict")
    inside = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    if weights is None:
        return next((inside[name] for name in _WRAPPERS if name in inside), content)
    if weights not in inside:
        names = listed(map(str, inside))
        raise CheckpointError(f"{path} has no state dict {weights!r}; it has: {names or 'one unnamed'}")
    return inside[weights]


def _tensors(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: the entry {name!r} is a {type(value).__name__}; expected a tensor")
    return dict(content)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
