"""What this machine has: versions, devices, and what of tocache works here."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tocache.errors import OptionError

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "triton", "matplotlib")


@dataclass(frozen=True)
class Diagnosis:
    """Names with what was found; None where something is missing."""

    versions: dict[str, str | None]
    devices: dict[str, str]  # torch's name → what it is
    abilities: dict[str, str | None]  # what tocache can do here → how; None: it cannot


def diagnose() -> Diagnosis:
    """Looks at the versions of what tocache uses, the devices that torch sees, and what follows from both."""
    from tocache.machine import installed_version

    versions = {"tocache": installed_version("tocache") or "source tree", "python": platform.python_version()}
    found = {name: installed_version(name) for name in PACKAGES}
    devices = _devices()
    return Diagnosis({**versions, **found}, devices, _abilities(found))


def device_named(name: str | None) -> torch.device:
    """The device of this name, e.g. cuda:1; None is the first of cuda, mps and cpu. Raises OptionError."""
    import torch

    there = [kind for kind, here in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if here.is_available()]
    there.append("cpu")
    if name is None:
        return torch.device(there[0])
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in there or (number and not (number.isdecimal() and int(number) < count)):
        raise OptionError(f"device={name!r} is not available here; available: {', '.join(there)}")
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Waits until `device` has done what it was given, so that a clock can be read."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _devices() -> dict[str, str]:
    import torch

    devices = {}
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        devices[f"cuda:{i}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    devices["cpu"] = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    return devices


def _abilities(found: dict[str, str | None]) -> dict[str, str | None]:
    from tocache.kernels import COLUMN_SUMS
    from tocache.models.registry import FAMILIES

    abilities: dict[str, str | None] = {
        "kernels": ", ".join(COLUMN_SUMS.names),
        "pictures of plans, compare": "matplotlib" if found["matplotlib"] else None,
    }
    for family in FAMILIES.values():
        here = [name for name in family.classes if _has_class(name)]
        abilities[f"models: {family.name}"] = ", ".join(here) or None
    return abilities


def _has_class(name: str) -> bool:
    if find_spec("diffusers") is None:
        return False
    import diffusers

    from tocache import opensora

    return hasattr(diffusers, name) or name in opensora.__all__
