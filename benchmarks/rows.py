"""What every row of results says of where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import diffusers
import torch

import tocache


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    name = torch.cuda.get_device_name() if device != "cpu" else _cpu_name()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "hardware": f"{name}, {torch.get_num_threads()} threads" if device == "cpu" else name,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "tocache": tocache.__version__,
        "commit": commit.stdout.strip(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def _cpu_name() -> str:
    model = "CPU"
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in Path("/proc/cpuinfo").read_text()]
    return f"{model} {platform.machine()} {'+'.join(flags)}".strip()
