"""A drawer that draws next to nothing, and a program that samples with it: `python nothing.py FOLDER OPTIONS`.

`python nothing.py serve` imports once, and then forks a process for each JSON list of such arguments on its input.

Its pictures are a ramp whose blue is the seed's last byte, with the prompt's length in one pixel: what is drawn depends
on prompt and seed alone, so that everything around the drawing can be tested to the bit, and fast.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tocache.sampling import Prompts, Settings, sample
from tocache.sampling.workers import Here

SIDE = 16


@dataclass
class Nothing:
    """Prompts that begin with "poison" raise, "black" gives no picture, "kill" kills the process, "hang" never ends."""

    side: int = SIDE
    seconds: float = 0.0  # of a call
    fps: float | None = None
    calls: list[tuple[str, ...]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)  # raised once each, in this order, before anything is drawn
    told: dict[str, Any] = field(default_factory=lambda: {"hardware": "none"})

    def about(self) -> Mapping[str, Any]:
        return self.told

    def draw(self, prompts: Sequence[str | int], seeds: Sequence[int]) -> list[np.ndarray | str]:
        self.calls.append(tuple(str(prompt) for prompt in prompts))
        time.sleep(self.seconds)
        if self.errors:
            raise self.errors.pop(0)
        for prompt in map(str, prompts):
            if prompt.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if prompt.startswith("hang"):
                threading.Event().wait()
            if prompt.startswith("poison"):
                raise ValueError(f"cannot say {prompt!r}")
        return [
            "black" if str(p).startswith("black") else self.picture(p, s) for p, s in zip(prompts, seeds, strict=True)
        ]

    def picture(self, prompt: str | int, seed: int) -> np.ndarray:
        ramp = np.linspace(0, 255, self.side).astype(np.uint8)
        pixels = np.empty((self.side, self.side, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = ramp, ramp[:, None], seed % 256
        pixels[0, 0] = len(str(prompt)) % 256
        return pixels


def prompts(count: int, **special: str) -> Prompts:
    """So many prompts; `at_3="poison"` puts that at the third place."""
    return Prompts(tuple(special.get(f"at_{i}", f"prompt {i}") for i in range(count)))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name; of the manifest the rows without their seconds, which no two runs share."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        data = path.read_bytes()
        if path.name == "manifest.jsonl":
            rows = [json.loads(line) for line in data.splitlines()]
            data = json.dumps([{k: v for k, v in row.items() if k != "seconds"} for row in rows]).encode()
        found[path.relative_to(folder).as_posix()] = data
    return found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shard", type=int, default=50)
    parser.add_argument("--format", default="png")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--special", type=json.loads, default={})
    parser.add_argument("--ray", type=int, default=0, help="workers")
    options = parser.parse_args(arguments)

    start: Any = Here
    if options.ray:
        from tocache.sampling.on_ray import OnRay

        start = partial(OnRay, address="auto", count=options.ray, gpus=0, device="cpu", threads=1)
    sampled = sample(
        Settings(batch=options.batch),
        prompts(options.num, **options.special),
        options.folder,
        format=options.format,
        shard=options.shard,
        load=partial(Nothing, seconds=options.seconds),
        start=start,
        tell=lambda state: print(state.done + state.skipped, state.workers, state.replaced, flush=True),
    )
    print(f"done {sampled.state.done} skipped {sampled.state.skipped} interrupted {sampled.interrupted}")


def serve() -> None:
    """Prints the process of each call, and how it ended; what the call prints goes to `FOLDER.log`."""
    for line in sys.stdin:
        arguments = json.loads(line)
        process = os.fork()
        if process == 0:
            log = os.open(f"{arguments[0]}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            main(arguments)
            sys.stdout.flush()
            os._exit(0)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main(sys.argv[1:])
