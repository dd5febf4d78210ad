"""Reading a checkpoint file as data: tensors come out, code never runs."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tocache.errors import CheckpointError
from tocache.models.originals.remap import listed

_WRAPPERS = ("ema", "state_dict", "state_dict_ema", "model")  # in the order of preference
_PREFIXES = ("module.", "model.diffusion_model.")  # of data-parallel training and of bundled checkpoints


def read_state_dict(path: str | Path, weights: str | None = None) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of anything that torch.save wrote, by their original names.

    A file of several state dicts gives the one named `weights`, by default the first of `ema`, `state_dict`,
    `state_dict_ema` and `model`, which is what the originals' sampling scripts read.

    Raises CheckpointError for a file that needs pickled code to load, is damaged, or holds no state dict; OSError
    where it cannot be opened.
    """
    path = Path(path)
    return _without_prefix(_tensors(_unwrapped(_read(path), weights, path), path))


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DiT's training script saves its arguments beside the weights: a Namespace holds values and runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        message = f"{path} is damaged or holds more than tensors; pickled objects and code are never loaded"
        raise CheckpointError(message) from error
    except Exception as error:  # damaged bytes lead the readers to any error at all: KeyError, EOFError, …
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason})") from error


def _unwrapped(content: Any, weights: str | None, path: Path) -> Any:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict")
    if weights is not None:
        if not isinstance(content.get(weights), Mapping):
            inside = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
            raise CheckpointError(f"{path} has no state dict {weights!r}; it has: {listed(inside) or 'one unnamed'}")
        return content[weights]
    return next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)


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
