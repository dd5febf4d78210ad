"""What figures depend on: hardware, versions, commit, command and time."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_BFLOAT16 = ("amx_bf16", "avx512_bf16")  # as Linux names what multiplies in it
_PACKAGES = ("tocache", "torch", "diffusers", "transformers", "accelerate", "cache-dit", "torchmetrics", "numpy")


def about_machine(device: torch.device, program: str = "tocache") -> dict[str, Any]:
    """JSON values; a package that is not installed is None, and so is the commit outside of a checkout.

    `program` is what the command's arguments were given to.
    """
    return {
        "hardware": device_name(device),
        "device": str(device),
        "versions": {name: installed_version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "commit": _commit(),
        "command": from_home(" ".join([program, *sys.argv[1:]])),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def from_home(text: str) -> str:
    """`text` with the user's home folder written as ~: what is measured is shown to others."""
    return text.replace(f"{Path.home()}/", "~/")


def device_name(device: torch.device) -> str:
    """A GPU's name, or how many threads of which processor, with what it has for half precision."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    text = _processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    flags = "".join(f" {flag}" for flag in _BFLOAT16 if flag in text)
    return f"{torch.get_num_threads()} threads of {name}{flags}"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is in the hardware: any GPU, and the processors that say so. Convolutions gain most by it."""
    return device.type == "cuda" or any(flag in _processor() for flag in _BFLOAT16)


def installed_version(package: str) -> str | None:
    """None where the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """What Linux says of it; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _commit() -> str | None:
    """Of the checkout that this package is run from; "+" after it where files were changed since."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed inside of another project's checkout
    commit = git("rev-parse", "--short", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
