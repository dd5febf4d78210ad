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

_PACKAGES = ("tocache", "torch", "diffusers", "transformers", "accelerate", "cache-dit", "torchmetrics", "numpy")


def about_machine(device: torch.device) -> dict[str, Any]:
    """JSON values; a package that is not installed is None, and so is the commit outside of a checkout."""
    threads = f", {torch.get_num_threads()} threads"
    cuda = device.type == "cuda"
    return {
        "hardware": torch.cuda.get_device_name(device) if cuda else _processor() + threads,
        "device": str(device),
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "commit": _commit(),
        "command": " ".join(["tocache", *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
