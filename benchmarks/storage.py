"""What keeping features in 8 bits costs in quality: pictures with a cache, by how it is kept, against uncached ones.

    .venv/bin/python benchmarks/storage.py --model demo:text --prompts 32

All pictures of a row begin with the same noise. A row of benchmarks/results/storage.jsonl holds the mean PSNR to the
uncached picture and the mean distance to it in the judge's features, for each method and storage, and the cache's
bytes per picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import tocache
from tocache.demo.judge import perceptual_distance
from tocache.demo.measure import HELD_OUT
from tocache.demo.world.scene import draw_scene
from tocache.evaluation.metrics import psnr
from tocache.generation import load_pipeline
from tocache.machine import about_machine

RESULTS = Path(__file__).parent / "results" / "storage.jsonl"
METHODS = (tocache.ToCa(), tocache.FORA(3))


def draw(pipe: Any, captions: list[str]) -> torch.Tensor:
    """(pictures, 3, height, width) in [0, 1]."""
    generators = [torch.Generator().manual_seed(i) for i in range(len(captions))]
    arguments = {"generator": generators, "output_type": "pt", "clean_caption": False}
    return torch.as_tensor(pipe(captions, **arguments).images).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:text")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype")
    options = parser.parse_args()

    pipe = load_pipeline(options.model, device=options.device, dtype=options.dtype)
    captions = [draw_scene(0, HELD_OUT + i).caption for i in range(options.prompts)]
    batches = [captions[i : i + options.batch] for i in range(0, len(captions), options.batch)]
    references = torch.cat([draw(pipe, batch) for batch in batches])
    for method in METHODS:
        for storage in ("same", "int8", "fp8"):
            with tocache.enabled(pipe, method, storage=storage):
                pictures = torch.cat([draw(pipe, batch) for batch in batches])
                report = tocache.report(pipe)
            row = {
                "model": options.model,
                "method": str(report.method),
                "storage": storage,
                "prompts": options.prompts,
                "psnr": round(float(psnr(pictures, references).mean()), 3),
                "judge_distance": round(float(perceptual_distance(pictures, references).mean()), 5),
                "cache_mib_per_picture": round((report.cache_bytes_peak or 0) / 2**20 / len(batches[-1]), 2),
            }
            print(json.dumps(row))
            with RESULTS.open("a") as file:
                file.write(
                    json.dumps(row | about_machine(torch.device(options.device), "python benchmarks/storage.py")) + "\n"
                )


if __name__ == "__main__":
    main()
