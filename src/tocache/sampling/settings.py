"""What decides every picture of a folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocache.generation import DEFAULT_MODEL
from tocache.methods import Method, Planned
from tocache.plan import Plan
from tocache.plan.files import plan_to_dict
from tocache.planning import check_count, check_guidance, check_preset, check_seed, dtype_name, is_demo, usual_steps


@dataclass(frozen=True)
class Settings:
    """How to draw: `model`, `method`, `storage` and `offload` as in `tocache.generate`; raises OptionError at once.

    steps    None: the preset's or plan's own, else the pipeline's default
    seed     of the whole run; each picture's own follows from it and the index
    batch    pictures of one call; which are drawn together follows from the index
    threads  of a CPU; None: what torch takes here
    """

    model: str = DEFAULT_MODEL
    method: Method | Plan | str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    batch: int = 8
    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    duration: str | None = None
    storage: str | None = None
    offload: bool | None = None

    def __post_init__(self) -> None:
        if not is_demo(self.model) and Path(self.model).is_dir():
            object.__setattr__(self, "model", str(Path(self.model).resolve()))  # workers may stand elsewhere
        if isinstance(self.method, Plan):
            object.__setattr__(self, "method", Planned(self.method))
        if isinstance(self.method, str):
            check_preset(self.method)
        for name in ("steps", "batch", "threads"):
            if name == "batch" or getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.guidance is not None:
            check_guidance(self.guidance)
        if self.dtype is not None:
            dtype_name(self.dtype)
        check_seed(self.seed)

    def call(self) -> dict[str, Any]:
        """The options of `call_arguments`."""
        size = {"resolution": self.resolution, "aspect_ratio": self.aspect_ratio, "num_frames": self.duration}
        return {"steps": self.steps or usual_steps(self.method), "guidance": self.guidance, "size": size}

    def described(self) -> dict[str, Any]:
        """JSON values of all that was asked for, without device and threads: the hardware that drew tells these."""
        values: dict[str, Any] = {
            "model": self.model,
            "method": _described(self.method),
            "steps": self.steps or usual_steps(self.method),
        }
        names = ("guidance", "seed", "batch", "resolution", "aspect_ratio", "duration", "storage", "offload")
        return values | {name: getattr(self, name) for name in names}


def _described(method: Method | Plan | str | None) -> str:
    if method is None:
        return "the default of the model"
    if isinstance(method, str):
        return f"preset {method}"
    if isinstance(method, Planned):
        digest = hashlib.sha256(json.dumps(plan_to_dict(method.given)).encode()).hexdigest()[:16]
        return f"plan {digest}{', stretched' if method.resample else ''}: {method}"
    return str(method)
