"""What `tocache tune` finds, and how it does on prompts that no choice has looked at.

    .venv/bin/python benchmarks/tuning.py --model demo:text --speedup 2.8

A row of benchmarks/results/tuning.jsonl holds the full steps, how much each step matters, and the loss on the held-out
pictures beside that of as many full steps at even distances.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from tocache.cli.show_tuned import show_tuned
from tocache.machine import about_machine
from tocache.tuning import tune

RESULTS = Path(__file__).parent / "results" / "tuning.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:text")
    parser.add_argument("--speedup", type=float, default=3.0)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    found = tune(options.model, options.speedup, prompts=options.prompts, trials=options.trials, device=options.device)
    show_tuned(found)
    row = {
        "model": options.model,
        "speedup": round(found.speedup, 4),
        "full": found.method.full,
        "steps": found.method.of,
        "measured": found.measured,
        "pictures": found.pictures,
        "losses": {name: {k: float(f"{v:.4g}") for k, v in figures.items()} for name, figures in found.losses.items()},
        "weights": [float(f"{weight:.3g}") for weight in found.weights],
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row | about_machine(torch.device(options.device), "python benchmarks/tuning.py")) + "\n")


if __name__ == "__main__":
    main()
