"""What reading attentions by some of their queries costs in quality, and what it saves in a full step.

    .venv/bin/python benchmarks/queries.py --part ranks --model demo:class
    .venv/bin/python benchmarks/queries.py --part pictures --model demo:class --pictures 16
    .venv/bin/python benchmarks/queries.py --part steps --side 64 --turns 7

ranks     An uncached run; at every `--every`th step and in each layer the scores of all queries and of a share of them:
          how many of the best tokens are the same, at two fresh ratios, and Spearman's rank correlation.
pictures  ToCa by the share of queries, random tokens beside it: the mean distance to the uncached picture in the
          judge's features, the mean PSNR, and the mean difference from exact scores, picture by picture, with its
          standard error.
steps     One row of side × side tokens in blocks of DiT-XL/2's size with random weights, float32: processor time of a
          full step with the cache on ÷ that of the uncached one of the same turn; "random" reads no attention.

Rows go to benchmarks/results/queries.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import tocache
from tocache.analysis.ranks import rank_correlation
from tocache.demo.judge import perceptual_distance
from tocache.demo.measure import HELD_OUT
from tocache.demo.world.scene import draw_scene
from tocache.engine.probe import Probe, Seen
from tocache.evaluation.metrics import psnr
from tocache.generation import load_pipeline
from tocache.kernels import attention_column_sums
from tocache.machine import about_machine
from tocache.methods import Composed
from tocache.plan import Budget, Every, Policy
from tocache.tokens import sample_queries, score_influence, select_top

RESULTS = Path(__file__).parent / "results" / "queries.jsonl"
SHARES = (0.5, 0.25, 0.1, 0.05)
FRESH = (0.1, 0.3)
INFLUENCE = {"influence": 1.0}


def draw(pipe: Any, asked: list[Any], first: int = 0, **others: Any) -> torch.Tensor:
    """(pictures, 3, height, width) in [0, 1]; picture i has seed `first` + i."""
    generators = [torch.Generator().manual_seed(first + i) for i in range(len(asked))]
    arguments = {"generator": generators, "output_type": "pt", **others}
    if isinstance(asked[0], str):
        arguments["clean_caption"] = False
    images = pipe(asked, **arguments).images
    found = torch.as_tensor(images).float()
    return found if found.shape[1] == 3 else found.permute(0, 3, 1, 2)


def asked_of(model: str, pictures: int) -> list[Any]:
    """Held-out captions, or classes in turn."""
    if model == "demo:class":
        return [i % 10 for i in range(pictures)]
    return [draw_scene(0, HELD_OUT + i).caption for i in range(pictures)]


def ranks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    pipe = load_pipeline(options.model)
    forwards: list[bool] = []  # of the transformer, and whether each is over; other modules attend too
    generator = torch.Generator().manual_seed(0)
    found: dict[float, list[tuple[float, ...]]] = {share: [] for share in SHARES}

    def look(seen: Seen) -> None:
        tokens = seen.key.shape[2]
        inside = bool(forwards) and not forwards[-1] and (len(forwards) - 1) % options.every == 0
        if not inside or seen.query.shape[2] != tokens:  # another step's, or to the text
            return
        exact = score_influence(attention_column_sums(seen.query, seen.key, scale=seen.scale))
        for share in SHARES:
            count = Policy({"influence": 1.0}, queries=share).queries_of(tokens)
            index = sample_queries(tokens, count, 1, generator=generator)[0]
            sums = attention_column_sums(seen.query, seen.key, scale=seen.scale, query_index=index)
            for one, other in zip(exact, score_influence(sums), strict=True):
                found[share].append((*(same_best(one, other, fresh) for fresh in FRESH), correlation(one, other)))

    pipe.transformer.register_forward_pre_hook(lambda *_: forwards.append(False))
    pipe.transformer.register_forward_hook(lambda *_: forwards.__setitem__(-1, True))
    with Probe(look):
        draw(pipe, asked_of(options.model, options.pictures))
    for share in SHARES:
        *same, rho = np.mean(found[share], axis=0).tolist()
        row: dict[str, Any] = {"part": "ranks", "model": options.model, "pictures": options.pictures, "queries": share}
        row |= {f"same_of_best_{fresh:g}": round(value, 3) for fresh, value in zip(FRESH, same, strict=True)}
        yield row | {"rank_correlation": round(rho, 3), "maps": len(found[share])}


def same_best(one: torch.Tensor, other: torch.Tensor, fresh: float) -> float:
    """Share of the best tokens by one score (tokens,) that are among the best by another."""
    count = max(1, int(fresh * len(one)))
    best = [set(select_top(score[None], count)[0].tolist()) for score in (one, other)]
    return len(best[0] & best[1]) / count


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Spearman's ρ of two scores (tokens,)."""
    return rank_correlation(one.double().numpy(), other.double().numpy())


def pictures(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    pipe = load_pipeline(options.model)
    asked = asked_of(options.model, options.pictures)
    starts = range(0, len(asked), options.batch)

    def all_of_them() -> torch.Tensor:
        return torch.cat([draw(pipe, asked[start : start + options.batch], start) for start in starts])

    references = all_of_them()
    methods = {
        f"queries={share:g}": tocache.ToCa(fresh_ratio=options.fresh_ratio, scores=INFLUENCE, queries=share)
        for share in (1.0, 0.25, 0.1, 0.05)
    }
    methods["random"] = tocache.ToCa(fresh_ratio=options.fresh_ratio, scores={"random": 1.0})
    exact: torch.Tensor | None = None
    for name, method in methods.items():
        with tocache.enabled(pipe, method):
            drawn = all_of_them()
            report = tocache.report(pipe)
        losses = perceptual_distance(drawn, references).double()
        exact = losses if exact is None else exact
        paired = losses - exact
        yield {
            "part": "pictures",
            "model": options.model,
            "method": report.method,
            "scores": name,
            "pictures": options.pictures,
            "judge_distance": round(float(losses.mean()), 5),
            "more_than_exact": round(float(paired.mean()), 5),
            "standard_error": round(float(paired.std() / len(paired) ** 0.5), 5),
            "psnr": round(float(psnr(drawn, references).mean()), 3),
            "flops_scores": report.flops_scores,
        }


def steps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    heads, width, depth, size = 16, 72, options.blocks, 2 * options.side
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=width, num_layers=depth, sample_size=size
    )
    model = model.eval().requires_grad_(False)
    inputs = {
        "hidden_states": torch.randn(1, 4, size, size),
        "timestep": torch.tensor([500]),
        "class_labels": torch.tensor([1]),
    }
    ways: dict[str, tocache.Method | None] = {
        "uncached": None,
        "random": two_full_steps(Policy({"random": 1.0}, staleness=0.25)),
        **{f"queries={s:g}": two_full_steps(Policy(INFLUENCE, staleness=0.25, queries=s)) for s in (1.0, 0.25, 0.1)},
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.turns + 1):
        for name, method in list(ways.items())[:: 1 if turn % 2 else -1]:
            seconds = full_step(model, method, inputs)
            if turn:  # the first allocates
                taken[name].append(seconds)
    for name, found in taken.items():
        ratios = np.array(found) / np.array(taken["uncached"])
        row = {"part": "steps", "tokens": options.side**2, "blocks": depth, "scores": name, "turns": options.turns}
        row |= {f"cpu_seconds_p{q}": round(float(np.percentile(found, q)), 3) for q in (20, 50, 80)}
        yield row | {f"over_uncached_p{q}": round(float(np.percentile(ratios, q)), 4) for q in (20, 50, 80)}


def two_full_steps(policy: Policy) -> tocache.Method:
    """Full steps first, of which the second is read by those that follow."""
    return Composed(Every(3, warmup=2), Budget(0.3, {"mlp": 1.0}), policy)


def full_step(model: Any, method: tocache.Method | None, inputs: dict[str, Any]) -> float:
    """Processor seconds of the second forward of a run: the plan is made in the first."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        run = None
        if method is not None:
            stack.enter_context(tocache.enabled(model, method))
            run = stack.enter_context(tocache.run(model, timesteps=12, cfg=None))
        model(**inputs)
        if run is not None:
            run.step()
        start = time.process_time()
        model(**inputs)
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("ranks", "pictures", "steps"), required=True)
    parser.add_argument("--model", default="demo:class", choices=("demo:class", "demo:text"))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--every", type=int, default=5, help="steps from one that is looked at to the next")
    parser.add_argument("--fresh-ratio", type=float, default=None, help="None: the recipe's")
    parser.add_argument("--side", type=int, default=32, help="of the square of tokens")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    for row in {"ranks": ranks, "pictures": pictures, "steps": steps}[options.part](options):
        line = json.dumps(row | about_machine(torch.device("cpu"), "python benchmarks/queries.py"))
        print(line, flush=True)
        with RESULTS.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
