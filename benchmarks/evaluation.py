"""What measuring tens of thousands of pictures costs besides the extractor: the most memory, and seconds.

    .venv/bin/python benchmarks/evaluation.py --pictures 50000 --reference 10000

The pictures are noise, and the extractor has Inception's widths (2048, 2023 and 1008 numbers) and computes next to
nothing. A row of benchmarks/results/evaluation.jsonl holds the most memory that a process of its own took for it (as
Linux tells it: VmHWM), and its seconds, for each set of metrics: everything, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tocache.evaluation.sets.evaluate import evaluate
from tocache.machine import about_machine

RESULTS = Path(__file__).parent / "results" / "evaluation.jsonl"
SIDE = 32
WIDTHS = {"pool": 2048, "spatial": 2023, "logits": 1008}


def extract(pictures: Tensor) -> Mapping[str, Tensor]:
    """The first pixels as each kind of feature."""
    flat = pictures.flatten(1)  # (B, 3, 32, 32) -> (B, 3072)
    return {kind: flat[:, :width] for kind, width in WIDTHS.items()}


def write_noise(path: Path, count: int, seed: int) -> None:
    np.savez(path, np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def measure_here(samples: str, reference: str, metrics: str) -> None:
    """Prints what this process took; it is started for it."""
    began = time.perf_counter()
    report = evaluate(samples, reference=reference, metrics=metrics.split(","), features="evaluation:extract")
    assert set(report.figures) == set(metrics.split(",")), report.left_out
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"peak_mib": round(int(peak[1]) / 1024), "seconds": round(time.perf_counter() - began, 1)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--reference", type=int, default=10_000)
    parser.add_argument("--metrics", nargs="*", default=["fid,sfid,is", "fid,sfid,is,precision,recall"])
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure_here(*options.measure)

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("samples.npz", "reference.npz")]
        for seed, (path, count) in enumerate(zip(paths, (options.pictures, options.reference), strict=True)):
            write_noise(path, count, seed)
        for metrics in options.metrics:
            command = [sys.executable, __file__, "--measure", *map(str, paths), metrics]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
            row = {"metrics": metrics, "pictures": options.pictures, "reference": options.reference}
            row |= json.loads(ran.stdout)
            print(json.dumps(row), flush=True)
            with RESULTS.open("a") as file:
                about = about_machine(torch.device("cpu"), "python benchmarks/evaluation.py")
                file.write(json.dumps(row | {"cores": os.cpu_count(), "load": os.getloadavg()[0]} | about) + "\n")


if __name__ == "__main__":
    main()
