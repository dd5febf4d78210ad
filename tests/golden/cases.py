"""What a golden file says: its arrays, and the metadata in the JSON file beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MARKS = {  # a parameter that only this family has
    "y_embedder.embedding_table.weight": "dit",
    "blocks.0.cross_attn.kv_linear.weight": "pixart",
    "double_blocks.0.img_mlp.0.weight": "flux",
    "spatial_blocks.0.cross_attn.kv_linear.weight": "opensora",
}
_FRAGILE_GAP = 1e-6  # scores this close may be told apart the other way round elsewhere


class GoldenError(Exception):
    """A file that cannot be read, or says something that this program does not know."""


@dataclass(frozen=True)
class Golden:
    """One golden file.

    `spec` is the whole JSON file (how the parameters are filled, their shapes, all runs); `meta` the entry of the
    file's run in it, or None for a file of single forwards.
    """

    name: str
    arrays: Mapping[str, NDArray[Any]]
    spec: Mapping[str, Any]
    meta: Mapping[str, Any] | None

    @property
    def config(self) -> Mapping[str, Any]:
        """The original model's configuration; single forwards share that of the first run."""
        run = self.meta or next(iter(self.spec["runs"].values()), None)
        if run is None:
            raise GoldenError("its JSON file lists no run and so no model configuration")
        config: Mapping[str, Any] = run["config"]
        return config

    @property
    def family(self) -> str:
        """`dit`, `pixart`, `flux` or `opensora`, told by the names of the parameters."""
        for mark, family in _MARKS.items():
            if mark in self.spec["shapes"]:
                return family
        raise GoldenError("its model is none of DiT, PixArt, FLUX and Open-Sora")

    def required(self) -> Mapping[str, Any]:
        """The metadata of a run; raises GoldenError for a file of single forwards."""
        if self.meta is None:
            raise GoldenError("it holds no run")
        return self.meta

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor of its own dtype."""
        return torch.from_numpy(np.ascontiguousarray(self.arrays[name]))

    def fragile(self) -> int:
        """How many recorded choices hang on a score difference under 1e-6."""
        gaps = [gap for name, gap in self.arrays.items() if name.startswith("gap")]
        return int(sum(np.count_nonzero(gap < _FRAGILE_GAP) for gap in gaps))


def load_golden(path: Path) -> Golden:
    """Reads `path` and the JSON file beside it that knows it. Raises GoldenError."""
    arrays = _arrays(path)
    if not arrays:
        raise GoldenError("it holds no arrays")
    specs = {file: _spec(file) for file in sorted(path.parent.glob("*.json"))}
    for spec in specs.values():
        for run in spec["runs"].values():
            if run.get("file") == path.name:
                return Golden(path.stem, arrays, spec, run)
    if "_forward" in path.stem:
        # the longest match: `dit_small.json` before `dit.json` for `dit_small_forward.npz`
        for file in sorted(specs, key=lambda file: len(file.stem), reverse=True):
            if path.stem.startswith(f"{file.stem}_"):
                return Golden(path.stem, arrays, specs[file], None)
    known = ", ".join(file.name for file in specs) or "none"
    raise GoldenError(f"no JSON file in its folder describes it (there: {known})")


def draws(rule: str, shape: Sequence[int]) -> Tensor:
    """float32 normal noise of `shape` from the seed that a rule like "default_rng(5) (4,4,S,S)" names.

    The shape that the rule spells is that of one batch size; the caller knows the file's own. Successive draws are
    one draw with a leading axis, since the generator is one stream.
    """
    seed = re.search(r"default_rng\((\d+)\)", rule)
    if seed is None:
        raise GoldenError(f"cannot follow the rule {rule!r}: it names no default_rng(seed)")
    drawn = np.random.default_rng(int(seed[1])).standard_normal(tuple(shape))
    return torch.from_numpy(drawn.astype(np.float32))


def unknown(what: str, value: object, known: str) -> NoReturn:
    """Raises the error for metadata that says something new."""
    raise GoldenError(f"unknown {what} {value!r}; known: {known}")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise GoldenError("there is no such file") from None
    except Exception as error:  # damaged archives raise whatever their bytes lead to
        raise GoldenError(f"not a readable .npz file ({type(error).__name__})") from error


def _spec(path: Path) -> Mapping[str, Any]:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GoldenError(f"{path.name} is not readable: {error}") from error
    if not isinstance(spec, dict) or not {"runs", "shapes", "overrides"} <= spec.keys():
        return {"runs": {}, "shapes": {}, "overrides": [], "kept": []}  # some other JSON file
    return spec
