"""Everything about seconds and memory that only a GPU can tell, in one script that needs no network.

    python benchmarks/gpu.py --part kernels
    python benchmarks/gpu.py --part latency --rows dit-256-8,dit-256-2 --ways eager,compiled,graphs
    python benchmarks/gpu.py --part memory,peers --rows flux-1024 --minutes 9

Models have their real sizes and random weights, made on the device. Each row of figures goes to a CSV file of
`--folder` as soon as it is there, with the GPU, versions, commit and command; a row that fails holds its error, and the
others go on. `--minutes` ends the script before the next row. `--tiny` does the same with tiny models of the same
classes, on a CPU too, in seconds.

kernels    each operation and implementation at the models' shapes, against float64, and its time
latency    the denoising loop with and without the cache in turns: eager, compiled, with CUDA graphs
memory     what the device holds at most over the uncached run, and what the plan states
peers      cache-dit and diffusers' caches on the same models, in turns with the uncached one
frontier   trained demos with compiled steps: seconds, and distance to the uncached pictures
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from on_gpu import frontier, kernels, latency, memory, peers
from on_gpu.jobs import Job, Options, tidy
from on_gpu.pipelines import Subject
from on_gpu.table import Table
from on_gpu.targets import ROWS

from tocache.errors import TocacheWarning

ALONE = {"kernels": kernels, "frontier": frontier}
ON_MODELS = {"latency": latency, "memory": memory, "peers": peers}
PARTS: dict[str, Any] = {**ALONE, **ON_MODELS}
NAMES = tuple(row.name for row in ROWS)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), help="parts, with commas between; all by default")
    parser.add_argument("--rows", default=",".join(NAMES), help="models, with commas between; all by default")
    parser.add_argument("--ways", default="eager,compiled", help=f"of latency: {', '.join(latency.WAYS)}")
    parser.add_argument("--peers", default="all", help="names as `tocache bench --peers` takes them")
    parser.add_argument(
        "--every", action="store_true", help="every setting of the peers, not the recommended one alone"
    )
    parser.add_argument("--ahead", action="store_true", help="modulations of all steps in one product, in both models")
    parser.add_argument("--multiple", type=int, help="of tokens, to which compiled steps raise amounts; by row")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each, in turns")
    parser.add_argument("--steps", type=int, help="of a run; the preset's by default")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row begins after them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bf16", choices=sorted(DTYPES))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results" / "gpu")
    parser.add_argument("--tiny", action="store_true", help="tiny models, few steps: does the script run?")
    options = parser.parse_args(arguments)
    for name, known in (("part", PARTS), ("rows", NAMES), ("ways", latency.WAYS)):
        given = [one.strip() for one in getattr(options, name).split(",") if one.strip()]
        if unknown := [one for one in given if one not in known]:
            parser.error(f"--{name}: unknown {unknown[0]!r}; known: {', '.join(known)}")
        setattr(options, name, given)
    if options.tiny and options.steps is None:
        options.steps = 6
    return options


def work(options: argparse.Namespace, how: Options) -> Iterator[tuple[str, Job]]:
    """(part, job) in turn; a model is made when its first job is due, and let go before the next one is made."""
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    if "kernels" in options.part:
        yield from (("kernels", job) for job in kernels.jobs(device, dtype, how))
    named = [row for row in ROWS if row.name in options.rows]
    parts = [part for part in options.part if part in ON_MODELS]
    for row in named if parts else ():
        subject: Subject | None = None
        try:
            subject = Subject(replace(row, tiny=options.tiny), options.device, dtype, steps=options.steps)
        except Exception as error:  # a model that is too large here: the next may not be
            reason = error
            yield from ((part, Job({"row": row.name}, lambda e=reason: _raise(e))) for part in parts)
        if subject is not None:
            for part in parts:
                yield from ((part, job) for job in ON_MODELS[part].jobs(subject, how))
        del subject
        tidy()
    if "frontier" in options.part:
        yield from (("frontier", job) for job in frontier.jobs(device, how))


def _raise(error: Exception) -> dict[str, Any]:
    raise error


def main(arguments: Sequence[str] | None = None) -> int:
    start = time.monotonic()
    options = parsed(arguments)
    how = Options(
        rounds=1 if options.tiny else options.rounds,
        tiny=options.tiny,
        ways=tuple(options.ways),
        multiple=options.multiple,
        peers=options.peers,
        every=options.every,
        ahead=options.ahead,
    )
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)  # of diffusers, about itself
    if options.tiny:
        warnings.filterwarnings("ignore", "tocache: a run of", TocacheWarning)  # a few steps are what was asked for
    device = torch.device(options.device)
    tables = {part: Table(options.folder / f"{part}.csv", PARTS[part].COLUMNS, device) for part in options.part}
    left_out, failed = 0, 0
    for part, job in work(options, how):
        if (time.monotonic() - start) / 60 >= options.minutes:
            left_out += 1
            continue
        began = time.monotonic()
        with torch.no_grad():
            row = job.row()
        tables[part].write(row)
        failed += "error" in row
        said = row.get("error") or {name: row[name] for name in list(row)[len(job.labels) :]}
        print(f"{time.monotonic() - began:6.1f} s  {part}: {dict(job.labels)}: {said}", flush=True)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes; {failed} rows failed; {left_out} left out")
    for table in tables.values():
        print(f"rows are in {table.path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
