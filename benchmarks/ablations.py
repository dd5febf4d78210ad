"""What each part of a token-wise cache is worth alone: one figure for each question, on the demo pipelines.

    .venv/bin/python benchmarks/ablations.py --model demo:text --pictures 16
    .venv/bin/python benchmarks/ablations.py --model demo:class --pictures 10 --batch 10
    .venv/bin/python benchmarks/ablations.py --read          # draw the figures from the rows again

scores     which tokens are computed: every score against random ones, at one budget
forecast   what is served between full steps: reuse against forecasts, by order, over the distance of full steps
weights    the published weights of the fresh ratio (by step, depth and kind) and of the schedule, one at a time
interval   few full steps and many fresh tokens, or the other way round, at equal FLOPs
attention  whether fresh tokens look around themselves again: partial self-attention at equal FLOPs
share      one choice of tokens for each sub-layer, each block or each step

Everything but the question is alike in a study: the same noise, the same full steps (dense where the run begins,
except where the study says otherwise), no staleness, no spread, the same tokens in both guidance halves. Where budgets
differ in shape, the fresh ratio is solved for, so that all plans of the study have the same FLOPs. Rows go to
benchmarks/results/ablations.jsonl, one for each setting, in place of an earlier one of the same setting; figures to
docs/images/ablation-STUDY.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ablation_plots import draw_study
from queries import asked_of, draw

import tocache
from tocache.demo.judge import perceptual_distance
from tocache.evaluation.metrics import bootstrap_interval, ssim
from tocache.generation import load_pipeline
from tocache.machine import about_machine
from tocache.methods import Composed, Method
from tocache.models.registry import family_of
from tocache.plan import Budget, Every, Policy, Schedule, Spaced, flops_planned, flops_uncached
from tocache.plan.anatomy import CROSS_ATTENTION, MLP, SELF_ATTENTION
from tocache.planning import plan_pipeline

RESULTS = Path(__file__).parent / "results" / "ablations.jsonl"
RANDOM: dict[str, Any] = {"scores": {"random": 1.0}, "together": True}
"""Of a policy: the tokens of both guidance halves are the same ones, by lot."""
FRESH = 0.3
LINE: dict[str, Any] = {"stale": "polynomial", "order": 1}


@dataclass(frozen=True)
class Variant:
    """One setting of a study: its `line` in the figure, its place `at` on the line, and the method."""

    line: str
    at: str
    method: Method


class Subject:
    """A demo pipeline with what its family has: kinds of sub-layers that compute tokens, and steps."""

    def __init__(self, model: str) -> None:
        self.model, self.pipe = model, load_pipeline(model)
        self.pipe.set_progress_bar_config(disable=True)
        family = family_of(self.pipe.transformer)
        self.steps = family.default_steps
        self.kinds = {kind: 1.0 for kind in (CROSS_ATTENTION, MLP) if kind in self._kinds()}
        self.texts = CROSS_ATTENTION in self.kinds

    def _kinds(self) -> set[str]:
        return {site.kind for site in plan_pipeline(self.pipe, tocache.FORA(2)).sites}

    def early(self, interval: float) -> Schedule:
        """Full steps that get rarer over the run, one in `interval` of them."""
        return Spaced(round(self.steps / interval), power=2.0)

    def fresh(
        self, schedule: Schedule, ratio: float, policy: Policy, kinds: Mapping[str, float] | None = None
    ) -> Method:
        return Composed(schedule, Budget(ratio, self.kinds if kinds is None else kinds), policy)

    def ratio(self, method: Method) -> float:
        """Times fewer FLOPs, by the plan; choosing tokens is not counted."""
        plan = plan_pipeline(self.pipe, method, steps=self.steps)
        return flops_uncached(plan) / flops_planned(plan)

    def at(self, target: float, make: Callable[[float], Method]) -> Method | None:
        """What `make` gives of the fresh ratio at which FLOPs are `target` times fewer; None where none is."""
        low, high = 0.0, 1.0
        if not self.ratio(make(low)) >= target >= self.ratio(make(high)):
            return None
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if self.ratio(make(middle)) > target else (low, middle)
        return make(low)


def scores(on: Subject) -> Iterator[Variant]:
    schedule = on.early(3)
    recipe = family_of(on.pipe.transformer).recipe(on.steps).policy.scores
    names = ["random", "influence", "value-norm", "key-norm", "norm", "similarity", "drift"] + ["entropy"] * on.texts
    policies = {name: Policy({name: 1.0}) for name in names}
    policies["as published"] = Policy(recipe, staleness=0.25, spread=0.4, interval=3)
    for line, together in (("both halves choose alike", True), ("each half for itself", False)):
        for name, policy in policies.items():
            yield Variant(line, name, on.fresh(schedule, FRESH, replace(policy, together=together)))
    fewer = on.fresh(schedule, 0.0, Policy())
    yield Variant("no fresh tokens", "reuse", fewer)
    spent = on.ratio(on.fresh(schedule, FRESH, Policy()))
    yield Variant("no fresh tokens", "reuse, as many FLOPs", on.fresh(on.early(spent), 0.0, Policy()))


def forecast(on: Subject) -> Iterator[Variant]:
    ways: dict[str, dict[str, Any]] = {
        "reuse": {},
        "line": LINE,
        "parabola": LINE | {"order": 2},
        "cubic": LINE | {"order": 3},
        "Hermite, order 2": {"stale": "hermite", "order": 2},
    }
    for line, options in ways.items():
        for interval in (2, 3, 4, 5):
            policy = Policy(**options)
            yield Variant(line, f"{interval}", Composed(on.early(interval), None, policy))


def weights(on: Subject) -> Iterator[Variant]:
    plain: dict[str, Any] = {"time": 0.0, "depth": 0.0, "kinds": on.kinds, "staleness": 0.0, "spread": 0.0}
    plain |= {"schedule": "constant", "interval": 3} | RANDOM
    recipe = family_of(on.pipe.transformer).recipe(on.steps).budget
    parts: dict[str, dict[str, Any]] = {
        "none": {},
        "steps": {"time": recipe.time},
        "depth": {"depth": recipe.depth},
        "kinds": {"kinds": {kind: recipe.kinds.get(kind, 0.0) for kind in on.kinds}},
        "schedule": {"schedule": "weighted"},
    }
    parts["all of them"] = {name: value for part in parts.values() for name, value in part.items()}
    target = on.ratio(tocache.ToCa(**plain, fresh_ratio=FRESH))
    for name, part in parts.items():
        method = on.at(target, lambda ratio, part=part: tocache.ToCa(**plain | part, fresh_ratio=ratio))  # type: ignore[misc]
        if method is not None:
            yield Variant("fresh tokens", name, method)


def interval(on: Subject) -> Iterator[Variant]:
    for line, schedule in (("full steps evenly", Every), ("full steps early", on.early)):
        for distance in (2, 3, 4, 6, 8):
            made = on.at(1.8, lambda ratio, n=distance, s=schedule: on.fresh(s(n), ratio, Policy(**RANDOM)))  # type: ignore[misc]
            if made is not None:
                yield Variant(line, f"{distance}", made)


def attention(on: Subject) -> Iterator[Variant]:
    sets = {
        "without": on.kinds,
        "with": on.kinds | {SELF_ATTENTION: 1.0},
    }
    for line, options in (("stale: reuse", {}), ("stale: a line", LINE)):
        for distance in (3, 4, 6):
            for name, kinds in sets.items():
                made = on.at(
                    2.0,
                    lambda ratio, n=distance, k=kinds, o=options: on.fresh(  # type: ignore[misc]
                        on.early(n), ratio, Policy(**RANDOM, share="step", **o), k
                    ),
                )
                if made is not None:
                    yield Variant(f"{line}, {name} self-attention", f"{distance}", made)


def share(on: Subject) -> Iterator[Variant]:
    for name in ("random", "drift"):
        for width in ("sublayer", "block", "step"):
            yield Variant(name, width, on.fresh(on.early(3), FRESH, Policy({name: 1.0}, share=width, together=True)))


STUDIES = {study.__name__: study for study in (scores, forecast, weights, interval, attention, share)}


def measure(on: Subject, study: str, pictures: int, batch: int) -> Iterator[dict[str, Any]]:
    asked = asked_of(on.model, pictures)
    starts = range(0, pictures, batch)

    def drawn() -> torch.Tensor:
        return torch.cat([draw(on.pipe, asked[start : start + batch], start) for start in starts])

    references = drawn()
    for variant in STUDIES[study](on):
        with tocache.enabled(on.pipe, variant.method):
            made = drawn()
        distances = perceptual_distance(made, references)
        low, high = bootstrap_interval(distances)
        yield {
            "study": study,
            "model": on.model,
            "line": variant.line,
            "at": variant.at,
            "pictures": pictures,
            "flops_ratio": round(on.ratio(variant.method), 4),
            "judge_distance": float(f"{float(distances.mean()):.5g}"),
            "low": float(f"{low:.5g}"),
            "high": float(f"{high:.5g}"),
            "one_minus_ssim": float(f"{float((1 - ssim(made, references)).mean()):.5g}"),
            "method": str(variant.method),
        }


def kept(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("study", "model", "line", "at"))


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:text", choices=("demo:class", "demo:text"))
    parser.add_argument("--study", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--read", action="store_true", help="draw the rows that are there, measure nothing")
    options = parser.parse_args()
    if not options.read:
        on = Subject(options.model)
        for study in options.study:
            for row in measure(on, study, options.pictures, options.batch):
                print(json.dumps(row), flush=True)
                others = [other for other in rows() if kept(other) != kept(row)]
                others.append(row | about_machine(torch.device("cpu"), "python benchmarks/ablations.py"))
                RESULTS.write_text("".join(json.dumps(other) + "\n" for other in others))
    for study in options.study:
        draw_study(study, [row for row in rows() if row["study"] == study])


if __name__ == "__main__":
    main()
