"""What `tocache tune` finds, and how it does on prompts that no choice has looked at.

    .venv/bin/python benchmarks/tuning.py --model demo:class --speedup 2 --steps 12 --prompts 6 --batch 2 --trials 2

A row of benchmarks/results/tuning.jsonl holds the method, how much each step matters, and the losses on the held-out
pictures beside those of presets and published methods at the same cost. `--memo` names a folder from which an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from tocache.cli.show_tuned import show_tuned
from tocache.machine import about_machine
from tocache.tuning import Goal, parse_seconds, tune
from tocache.tuning.compare import PUBLISHED

RESULTS = Path(__file__).parent / "results" / "tuning.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:text")
    parser.add_argument("--speedup", type=float)
    parser.add_argument("--latency", type=parse_seconds)
    parser.add_argument("--max-loss", type=float)
    parser.add_argument("--by", default="seconds")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--against", default=",".join(PUBLISHED))
    parser.add_argument("--memo", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    found = tune(
        options.model,
        Goal(options.speedup, options.latency, options.max_loss, options.by),
        prompts=options.prompts,
        steps=options.steps,
        batch=options.batch,
        trials=options.trials,
        against=options.against.split(","),
        device=options.device,
        memo=options.memo,
    )
    show_tuned(found)
    row = {
        "model": options.model,
        "goal": str(found.goal),
        "ratio": found.ratio,
        "method": str(found.method),
        "between": found.between,
        "measured": found.measured,
        "pictures": found.pictures,
        "measure": found.measure,
        "loss": found.loss,
        "compared": [asdict(one) for one in found.compared],
        "weights": found.weights,
    }
    if found.clock is not None:
        costs = {way: asdict(each) for way, each in found.clock.costs.items()}
        row |= {"uncached_seconds": found.clock.uncached, "prediction_error": found.clock.error, "step_costs": costs}
    row |= about_machine(torch.device(options.device), "python benchmarks/tuning.py")
    with RESULTS.open("a") as file:
        file.write(json.dumps(_rounded(row)) + "\n")


def _rounded(value: object) -> object:
    """The same with fractions of four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
