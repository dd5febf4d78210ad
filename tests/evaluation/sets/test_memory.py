"""Pictures go by; they do not pile up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CODE = """
import pathlib, re, sys
from tocache.evaluation.sets.evaluate import evaluate
evaluate(sys.argv[1], reference=sys.argv[2], metrics=["fid"], features="spread:extract", intervals=False, batch=100)
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""  # not ru_maxrss: on Linux it begins with what the process that started this one had


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the most memory from /proc")
def test_four_times_the_pictures_take_no_more_memory(tmp_path: Path) -> None:
    """16,000 pictures of 64 × 64 are 188 MiB of pixels, and 750 MiB as the float32 that extractors get."""
    (tmp_path / "spread.py").write_text("def extract(pictures):\n    return pictures.flatten(2).std(dim=2)\n")
    dice = np.random.default_rng(0)
    for name, count in (("few", 4000), ("many", 16_000)):
        np.savez(tmp_path / f"{name}.npz", dice.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))

    def peak(name: str) -> int:
        arguments = [str(tmp_path / f"{name}.npz"), str(tmp_path / "few.npz")]
        command = [sys.executable, "-c", CODE, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)

    few, many = (min(peak(name) for _ in range(2)) for name in ("few", "many"))  # what disturbs a run only adds
    assert many - few < 60, (few, many)
