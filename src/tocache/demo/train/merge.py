"""What one run learned on its way to a larger size, given to a run that is better at the smaller one.

Two runs that begin at the same weights and learn different things can be added up (task vectors, Ilharco et al., arXiv
2212.04089): `base` + (`grown` − `small`), where `grown` was trained on from `small`. It costs nothing, and a run that
begins there has the larger size's shapes from its first step.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tocache.errors import CheckpointError
from tocache.machine import device_name

_WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"
_CONFIG = Path("transformer") / "config.json"


def merge(base: Path, grown: Path, small: Path, out: Path) -> Path:
    """Write to `out`/export the pipeline `base` with `grown` − `small` added to its transformer; all are such folders.

    The transformer's sizes are those of `grown`. Raises CheckpointError where the three have other tensors.
    """
    weights = [load_file(folder / _WEIGHTS) for folder in (base, grown, small)]
    shapes = [{name: tuple(tensor.shape) for name, tensor in part.items()} for part in weights]
    for folder, other in zip((grown, small), shapes[1:], strict=True):
        if other != shapes[0]:
            name = next(iter(dict(shapes[0].items() ^ other.items())))
            raise CheckpointError(f"{folder}: {name} is not as in {base}; runs that are merged are of one model")
    export = out / "export"
    shutil.copytree(base, export, dirs_exist_ok=True)
    one, two, three = weights
    merged = {name: one[name].float() + (two[name].float() - three[name].float()) for name in one}
    save_file(merged, export / _WEIGHTS)
    shutil.copyfile(grown / _CONFIG, export / _CONFIG)
    run = {
        "command": f"python -m tocache.demo.train {shlex.join(sys.argv[1:])}",
        "steps": 0,
        "pictures seen": 0,
        "minutes": 0.0,
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
    }
    (out / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    return export
