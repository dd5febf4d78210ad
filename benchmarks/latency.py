"""How much of the saved FLOPs becomes saved seconds, on random weights of real size.

    .venv/bin/python benchmarks/latency.py --model dit-xl-2-256 --pictures 4

One transformer, twice: plain, and (sharing the same weights) with the cache on. Steps of the run are made by both,
one right after the other and in alternating order, so that whatever else the machine does meets both alike; where
`--pairs` is fewer than the steps, the plain model makes that many, spread over the full steps, and the uncached loop
is their mean times the steps.
With `--compile` both are compiled, the plain model as a whole and the cached one by kind of step. With
`--modulate-ahead` both have the modulations of all steps computed in one product, which is timed as part of the first.
A row goes to benchmarks/results/latency.jsonl: seconds by kind of step (p20, p50, p80), the denoising loop's
realised and FLOPs speed-up, and what a full step costs more with the cache on.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import tocache
from tocache.machine import about_machine
from tocache.models.architectures import ARCHITECTURES
from tocache.models.registry import family_of
from tocache.plan import Plan, flops_planned, flops_uncached
from tocache.planning import method_for, method_from

RESULTS = Path(__file__).parent / "results" / "latency.jsonl"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def build(name: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """A known architecture with small random weights, so that activations stay finite in half precision."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        model = getattr(diffusers, architecture.transformer)(**architecture.config)
    model = model.to(dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.normal_(0, 0.02, generator=generator) if tensor.is_floating_point() else tensor.data.zero_()
    return model.requires_grad_(False)


def twin_of(model: torch.nn.Module) -> torch.nn.Module:
    """The same modules once more, over the same weights."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def inputs_of(model: Any, pictures: int, guided: bool, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """The arguments of one forward at the model's usual size."""
    family, config = family_of(model), model.config
    shape = family.default_pass(model, pictures=pictures, guided=guided, itemsize=dtype.itemsize)
    make = {"device": device, "dtype": dtype}
    rows = shape.rows
    if family.name == "flux":
        height, width = shape.grid or (64, 64)
        ids = torch.zeros(height, width, 3)
        ids[..., 1], ids[..., 2] = torch.arange(height)[:, None], torch.arange(width)[None]
        return {
            "hidden_states": torch.randn(rows, shape.tokens["image"], config.in_channels, **make),
            "encoder_hidden_states": torch.randn(rows, shape.tokens["text"], config.joint_attention_dim, **make),
            "pooled_projections": torch.randn(rows, config.pooled_projection_dim, **make),
            "timestep": torch.full((rows,), 0.5, **make),
            "guidance": torch.full((rows,), 3.5, device=device),
            "img_ids": ids.reshape(-1, 3).to(**make),
            "txt_ids": torch.zeros(shape.tokens["text"], 3, **make),
        }
    size = config.sample_size
    arguments: dict[str, Any] = {
        "hidden_states": torch.randn(rows, config.in_channels, size, size, **make),
        "timestep": torch.full((rows,), 500, device=device),
    }
    if family.name == "dit":
        return arguments | {"class_labels": torch.arange(rows, device=device)}
    conditions = {"resolution": None, "aspect_ratio": None}
    if size == 128:
        conditions = {"resolution": torch.full((rows, 2), 1024.0, **make), "aspect_ratio": torch.ones(rows, 1, **make)}
    return arguments | {
        "encoder_hidden_states": torch.randn(rows, shape.context, config.caption_channels, **make),
        "encoder_attention_mask": torch.ones(rows, shape.context, **make),
        "added_cond_kwargs": conditions,
    }


def timed(model: torch.nn.Module, arguments: dict[str, Any], device: str) -> float:
    """Seconds of one forward."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    model(**arguments)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    plain: Any, cached: Any, arguments: dict[str, Any], steps: int, paired: set[int], cfg: str | None, device: str
) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds by step of the plain model, for the steps `paired`, and of the cached one."""
    seconds: tuple[dict[int, float], dict[int, float]] = {}, {}
    models = [(plain, seconds[0]), (cached, seconds[1])]
    times = torch.linspace(999, 0, steps, device=device)
    times = times.long() if arguments["timestep"].dtype == torch.int64 else times
    with torch.no_grad(), ExitStack() as stack:
        plain(**arguments)  # the first forward allocates
        runs = [stack.enter_context(tocache.run(cached, timesteps=times, cfg=cfg))]
        of_plain = times[sorted(paired)]  # a run of its own, of as many steps as it makes
        if is_enabled(plain):
            runs.insert(0, stack.enter_context(tocache.run(plain, timesteps=of_plain, cfg=cfg)))
        for step in range(steps):
            here = models if step in paired else models[1:]
            for model, noted in here if step % 4 < 2 else here[::-1]:
                time = times[step] if model is cached else of_plain[sorted(paired).index(step)]
                noted[step] = timed(model, arguments | {"timestep": time_of(time, arguments["timestep"])}, device)
            for run in runs if step in paired else runs[-1:]:
                run.step()
    return seconds


def time_of(time: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The argument of a forward at a time of the schedule, as pipelines make it."""
    rows = time.expand(like.shape)
    return rows if like.dtype in (time.dtype, torch.int64) else rows.to(like.dtype) / 1000


def is_enabled(model: torch.nn.Module) -> bool:
    """Whether anything of tocache is on this model."""
    try:
        tocache.report(model)
    except tocache.NotEnabledError:
        return False
    return True


def paired_steps(plan: Plan, pairs: int) -> set[int]:
    """The steps that the plain model makes too: all, or `pairs` of them spread over the full ones."""
    if pairs >= plan.steps:
        return set(range(plan.steps))
    full = [step for step in range(plan.steps) if plan.kind_of_step(step) == "full"]
    return {full[i] for i in np.linspace(0, len(full) - 1, pairs).round().astype(int)}


def spread(values: list[float]) -> dict[str, float]:
    """p20, p50 and p80 in milliseconds."""
    return {f"p{q}": round(float(np.percentile(values, q)) * 1e3, 3) for q in (20, 50, 80)}


def row_of(plan: Plan, plain: dict[int, float], cached: dict[int, float]) -> dict[str, Any]:
    """The figures of one run."""
    kinds = [plan.kind_of_step(step) for step in range(plan.steps)]
    by_kind = {kind: [cached[s] for s in cached if kinds[s] == kind] for kind in sorted(set(kinds))}
    saved = flops_uncached(plan) / flops_planned(plan)
    uncached = float(np.mean(list(plain.values()))) * plan.steps
    realised = uncached / sum(cached.values())
    ratios = [cached[step] / seconds for step, seconds in plain.items() if kinds[step] == "full"]
    return {
        "steps": {kind: len(values) for kind, values in by_kind.items()},
        "pairs": len(plain),
        "ms_uncached": spread(list(plain.values())),
        "ms_cached": {kind: spread(values) for kind, values in by_kind.items()},
        "loop_seconds": {"uncached": round(uncached, 3), "cached": round(sum(cached.values()), 3)},
        "flops_speedup": round(saved, 4),
        "realised_speedup": round(realised, 4),
        "realised_over_flops": round(realised / saved, 4),
        "full_step_overhead": round(float(np.median(ratios)) - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dit-xl-2-256", choices=sorted(ARCHITECTURES))
    parser.add_argument("--method", default="toca")
    parser.add_argument("--preset")
    parser.add_argument("--interval", type=int)
    parser.add_argument("--fresh-ratio", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--unguided", action="store_true", help="one row per picture instead of both guidance halves")
    parser.add_argument("--dtype", default="bf16", choices=sorted(DTYPES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pairs", type=int, default=10**6, help="steps that the plain model makes too; default all")
    parser.add_argument("--compile", action="store_true", help="compile both; a first run of each is not timed")
    parser.add_argument(
        "--multiple", type=int, default=1, help="of tokens, to which amounts are raised in compiled steps"
    )
    parser.add_argument("--modulate-ahead", action="store_true", help="modulations of all steps in one product; both")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()

    torch.manual_seed(0)
    dtype = DTYPES[options.dtype]
    plain = build(options.model, dtype, options.device)
    cached = twin_of(plain)
    family = family_of(plain)
    name = None if options.preset else options.method
    method = method_from(name, interval=options.interval, fresh_ratio=options.fresh_ratio, preset=options.preset)
    steps = options.steps or family.default_steps
    guided = not options.unguided and family.default_guidance > 1
    arguments = inputs_of(plain, options.pictures, guided, dtype, options.device)
    tocache.enable(cached, method, modulate_ahead=options.modulate_ahead)
    if options.modulate_ahead:
        tocache.enable(plain, tocache.Uncached(), modulate_ahead=True)
    shape = family.default_pass(plain, pictures=options.pictures, guided=guided, itemsize=dtype.itemsize)
    plan = method_for(method, family.name).plan([family.anatomy(plain, shape)], steps)
    pairs = paired_steps(plan, options.pairs)
    if options.compile:
        plan = plan.rounded(options.multiple)
        if options.modulate_ahead:
            tocache.compile(plain)
        else:
            plain.compile(fullgraph=True, dynamic=False)
        tocache.compile(cached, multiple=options.multiple)
        measure(plain, cached, arguments, steps, {0}, shape.halves, options.device)
    seconds = measure(plain, cached, arguments, steps, pairs, shape.halves, options.device)
    report = tocache.report(cached)
    row = {"model": options.model, "method": report.method, "rows": report.rows, "dtype": options.dtype}
    row |= {"graphs": report.graphs, "multiple": options.multiple} if options.compile else {}
    row |= {"modulation_mib": round((report.modulation_bytes or 0) / 2**20, 1)} if options.modulate_ahead else {}
    row |= row_of(plan, *seconds) | {"cache_mib": round((report.cache_bytes_peak or 0) / 2**20, 1)}
    row |= about_machine(torch.device(options.device), "python benchmarks/latency.py")
    print(json.dumps(row, indent=2))
    if not options.no_save:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
