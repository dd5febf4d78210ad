"""What sampling costs besides drawing: pictures per second with a model that does nothing, memory, and resuming.

    .venv/bin/python benchmarks/sampling.py --pictures 20000 --rows 1000000

Each row of benchmarks/results/sampling.jsonl holds one measurement. "write" rows: pictures per second from pixels to
files and manifest in the fastest of some runs, CPU milliseconds per picture in the one that took least of them, and
the process's memory after a tenth of the pictures and at the end. "resume" rows: seconds of a call that finds `rows`
pictures in the folder, of which the last batch is missing, or the last shard where shards are .tar files. The folder is
made for it, with a file for each row or a .tar for each shard (hard links, one picture per shard; a .tar that is
finished is not looked into).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tocache.machine import about_machine
from tocache.samples import Layout, Row
from tocache.sampling import Prompts, Settings, State, sample
from tocache.sampling.batches import seed_of
from tocache.sampling.drawn import Pixels, encode

RESULTS = Path(__file__).parent / "results" / "sampling.jsonl"
PROMPTS = Prompts(tuple(f"a lighthouse at dusk, number {i} of its kind" for i in range(1000)))


class Nothing:
    """Two ramps and a colour that is the seed's: what costs as little as can be, and is different each time."""

    fps = None

    def __init__(self, side: int) -> None:
        ramp = np.linspace(0, 255, side).astype(np.uint8)
        self._pixels = np.stack(np.broadcast_arrays(ramp, ramp[:, None], np.uint8(0)), axis=-1)

    def about(self) -> Mapping[str, Any]:
        return {}

    def draw(self, prompts: Sequence[str | int], seeds: Sequence[int]) -> list[Pixels | str]:
        pictures = np.repeat(self._pixels[None], len(seeds), axis=0)
        pictures[..., 2] = (np.array(seeds) % 256).reshape(-1, 1, 1)
        return list(pictures)


def measure_writing(folder: Path, pictures: int, side: int, format: str, batch: int, runs: int) -> dict[str, Any]:
    process = psutil.Process()
    seconds, cpu_seconds = [], []
    for run in range(runs):
        memory: list[int] = []

        def tell(state: State, memory: list[int] = memory) -> None:
            if state.now >= pictures * (1 + 9 * len(memory)) // 10:
                memory.append(process.memory_info().rss)

        begun = time.process_time()
        options: dict[str, Any] = {"format": format, "load": partial(Nothing, side), "tell": tell}
        seconds.append(sample(Settings(batch=batch), PROMPTS, folder / str(run), num=pictures, **options).seconds)
        cpu_seconds.append(time.process_time() - begun)
    return {
        "what": "write",
        "pictures": pictures,
        "side": side,
        "format": format,
        "batch": batch,
        "runs": runs,
        "per_second": round(pictures / min(seconds)),
        "cpu_ms_per_picture": round(1000 * min(cpu_seconds) / pictures, 3),
        "mib_after_a_tenth": round(memory[0] / 2**20, 1),
        "mib_at_the_end": round(memory[1] / 2**20, 1),
    }


def measure_resuming(folder: Path, rows: int, format: str, batch: int) -> dict[str, Any]:
    settings = Settings(batch=batch)
    options: dict[str, Any] = {"format": format, "load": partial(Nothing, 64)}
    sample(settings, PROMPTS, folder, num=1, **options)  # the configuration
    layout, file = Layout(folder, 1000), encode(Nothing(64).draw((), (0,))[0])  # type: ignore[arg-type]
    unit = layout.shard if format == "tar" else batch
    there = (rows - 1) // unit * unit
    with layout.manifest.open("w") as manifest:
        for shard in range(1, layout.shards(there) if format == "tar" else 0):
            os.link(layout.tar(0), layout.tar(shard))
        for shard in range(layout.shards(there) if format == "png" else 0):
            layout.folder(shard).mkdir(exist_ok=True)
            first, *others = (layout.images / layout.name(i) for i in layout.indices(shard, there))
            first.write_bytes(file.data)
            for path in others:
                os.link(first, path)
        for i in range(there):
            known = (i, PROMPTS[i], seed_of(0, i), layout.name(i), len(file.data))
            manifest.write(Row(*known, hashlib.sha256(str(i).encode()).hexdigest(), 0.5).line())
    process = psutil.Process()
    before, begun = process.memory_info().rss, time.perf_counter()
    sampled = sample(settings, PROMPTS, folder, num=rows, **options)
    assert sampled.state.now == rows - there
    return {
        "what": "resume",
        "rows": rows,
        "format": format,
        "manifest_mib": round(layout.manifest.stat().st_size / 2**20, 1),
        "seconds": round(time.perf_counter() - begun, 2),
        "mib_more": round((process.memory_info().rss - before) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--sides", type=int, nargs="*", default=[64])
    parser.add_argument("--formats", nargs="*", default=["png", "tar"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()

    def run(measure: Any, *arguments: Any) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            row = measure(folder / "samples", *arguments)
        finally:
            shutil.rmtree(folder)
        print(json.dumps(row), flush=True)
        with RESULTS.open("a") as file:
            about = about_machine(torch.device("cpu"), "python benchmarks/sampling.py")
            file.write(json.dumps(row | {"cores": os.cpu_count(), "load": os.getloadavg()[0]} | about) + "\n")

    for side in options.sides:
        for format in options.formats:
            run(measure_writing, options.pictures, side, format, options.batch, options.runs)
    for format in options.formats if options.rows else ():
        run(measure_resuming, options.rows, format, options.batch)


if __name__ == "__main__":
    main()
