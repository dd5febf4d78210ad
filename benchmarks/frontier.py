"""The frontier of a demo: what `tocache tune` has found for it, every method of ours, and the peers, in one benchmark.

    .venv/bin/python benchmarks/frontier.py --model demo:class --prompts 24 --batch 8

Takes the newest row for each goal in FLOPs from benchmarks/results/tuning.jsonl, draws all contenders as `tocache
bench` does, and writes benchmarks/results/frontier/MODEL/results.json and .csv, and docs/images/frontier-MODEL.png.
Prints, for each point, the best of ours that nobody has published beside the best of everything else.
"""

from __future__ import annotations

import argparse
import ast
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tocache.cli.progress import work_bar
from tocache.cli.show_bench import show_results
from tocache.evaluation.bench import POINTS, bench
from tocache.evaluation.contenders import is_new
from tocache.evaluation.frontier import interpolate
from tocache.evaluation.pareto import draw_pareto
from tocache.evaluation.results import BY_FLOPS, BY_LATENCY, LOSSES, Results, read_results, write_results
from tocache.methods import METHODS, Placed
from tocache.plan import save_plan
from tocache.planning import plan_model

HERE = Path(__file__).parent
TUNING = HERE / "results" / "tuning.jsonl"
IMAGES = HERE.parent / "docs" / "images"
FORECAST = "early:stale=taylor:order=1:warmup=2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:class")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--points", type=float, nargs="+", default=list(POINTS))
    parser.add_argument("--methods", nargs="+", default=[*(name for name in METHODS if name not in _LEFT), FORECAST])
    parser.add_argument("--peers", default="all")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "frontier")
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--read", action="store_true", help="measure nothing: read and plot the results that are there")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    name = options.model.replace(":", "-")
    if options.read:
        found = read_results(options.results / name)
        draw_pareto(found, options.images / f"frontier-{name}.png")
        print("\n".join(bar(found, options.points)))
        return
    with tempfile.TemporaryDirectory() as folder, work_bar() as tell:
        plans = list(_plan_files(options.model, Path(folder)))
        found = bench(
            options.model,
            methods=",".join([*options.methods, *map(str, plans)]),
            peers=options.peers,
            points=options.points,
            prompts=options.prompts,
            batch=options.batch,
            steps=options.steps,
            device=options.device,
            tell=tell,
        )
    found.about["command"] = shlex.join(["python", "benchmarks/frontier.py", *sys.argv[1:]])
    write_results(found, options.results / name)
    draw_pareto(found, options.images / f"frontier-{name}.png")
    show_results(found)
    print("\n".join(bar(found, options.points)))


_LEFT = ("none", "placed")  # the reference itself, and what is tuned


def bar(results: Results, points: Sequence[float]) -> Iterator[str]:
    """Lines that hold, for each loss and point, the best new method against the best of all others."""
    for by in (BY_FLOPS, BY_LATENCY):
        for loss in LOSSES:
            for point in points:
                known = {name: interpolate(results.curve(name, loss, by), point).loss for name in results.curves()}
                reached = {curve: value for curve, value in known.items() if value is not None}
                sides = [
                    min(((value, curve) for curve, value in reached.items() if is_new(curve) == new), default=None)
                    for new in (True, False)
                ]
                yield f"{loss} by {by} at {point:g}x: {_said(sides[0])} against {_said(sides[1])}" + (
                    f", {sides[0][0] / sides[1][0]:.2g} of it" if sides[0] and sides[1] and sides[1][0] > 0 else ""
                )


def _said(best: tuple[float, str] | None) -> str:
    return "nothing" if best is None else f"{best[1]} {best[0]:.3g}"


def _plan_files(model: str, folder: Path) -> Iterator[Path]:
    """The newest tuned method for each goal in FLOPs, as plan files."""
    rows = [json.loads(line) for line in TUNING.read_text().splitlines()]
    newest = {row["goal"]: row for row in rows if row["model"] == model and row.get("goal", "").endswith("fewer flops")}
    for goal, row in newest.items():
        path = folder / f"{goal.partition('×')[0]}x.json"
        save_plan(plan_model(model, _placed(row["method"])), path)
        yield path


def _placed(text: str) -> Placed:
    """The method that a row holds as the call that makes it."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    positional = [ast.literal_eval(value) for value in call.args]
    return Placed(*positional, **{word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg})


if __name__ == "__main__":
    main()
