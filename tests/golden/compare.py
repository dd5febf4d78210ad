"""Runs a golden file through tocache and says how far the two are apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import tocache

from .cases import Golden, GoldenError, load_golden, unknown
from .loops import CFG, forwards, relative_error, sample, timesteps
from .weights import build

TOLERANCE = 1e-5
FRAGILE_TOLERANCE = 5e-3  # where so many choices are near-ties that some must fall the other way on another machine
FRAGILE_CHOICES = 100

Group = tuple[str, str, str]  # stack, kind and token group of a site
Sites = Mapping[tuple[Group, int], int]  # (group, block) → column of the plan

_DOUBLE, _SINGLE = "transformer_blocks", "single_transformer_blocks"
_MLP = (_DOUBLE, "mlp", "image")
_CROSS = (_DOUBLE, "cross-attention", "image")
_TEXT = (_DOUBLE, "mlp", "text")
_PARALLEL = (_SINGLE, "parallel", "joint")
_SPATIAL_CROSS = ("spatial_blocks", "cross-attention", "image")
_SPATIAL_MLP = ("spatial_blocks", "mlp", "image")
_TEMPORAL_CROSS = ("temporal_blocks", "cross-attention", "image")
_TEMPORAL_MLP = ("temporal_blocks", "mlp", "image")
# the arrays of token counts, and how the arrays of choices name a module
_COUNTS: Mapping[str, Mapping[str, Group]] = {
    "dit": {"k_mlp": _MLP},
    "pixart": {"k_cross": _CROSS, "k_mlp": _MLP},
    "flux": {"k_double_img": _MLP, "k_double_txt": _TEXT, "k_single": _PARALLEL},
    "opensora": {
        "k_spatial_cross-attn": _SPATIAL_CROSS,
        "k_spatial_mlp": _SPATIAL_MLP,
        "k_temporal_cross-attn": _TEMPORAL_CROSS,
        "k_temporal_mlp": _TEMPORAL_MLP,
    },
}
_MODULES: Mapping[tuple[str | None, str], Group] = {
    (None, "mlp"): _MLP,
    (None, "cross-attn"): _CROSS,
    ("double", "img_mlp"): _MLP,
    ("double", "txt_mlp"): _TEXT,
    ("single", "mlp"): _PARALLEL,
    ("spatial", "cross-attn"): _SPATIAL_CROSS,
    ("spatial", "mlp"): _SPATIAL_MLP,
    ("temporal", "cross-attn"): _TEMPORAL_CROSS,
    ("temporal", "mlp"): _TEMPORAL_MLP,
}
_RECIPES: Mapping[tuple[str, str], str] = {
    ("dit", "ToCa-ddim50"): "dit-ddim50",
    ("dit", "ToCa-ddpm250"): "dit-ddpm250",
    ("dit", "constant"): "dit-ddim50",
    ("pixart", "ToCa"): "pixart",
    ("pixart", "constant"): "pixart",
    ("flux", "ToCa"): "flux",
    ("flux", "constant"): "flux",
    ("opensora", "ToCa"): "opensora",
    ("opensora", "constant"): "opensora",
}
_OPENSORA_WARMUP = 3  # steps that are full in any cycle
_STALENESS = 0.25  # of every published run whose file does not say `soft_fresh_weight`


@dataclass(frozen=True)
class RunResult:
    """A recorded run against ours; errors are relative to the largest recorded value."""

    name: str
    final_error: float
    tolerance: float
    plan_equal: bool
    selections_equal: int
    selections: int

    @property
    def passed(self) -> bool:
        """Whether the final latent is close enough and every decision and token count the same."""
        return self.plan_equal and self.final_error <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.name} final_rel_err={self.final_error:.2e} plan_equal={'yes' if self.plan_equal else 'no'} "
            f"selections_equal={self.selections_equal}/{self.selections}"
        )


@dataclass(frozen=True)
class ForwardResult:
    """Recorded single forwards against the converted model's; the worst of them."""

    name: str
    error: float

    @property
    def passed(self) -> bool:
        """Whether all of them are close enough."""
        return self.error <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.name} forward_rel_err={self.error:.2e}"


def compare(path: Path) -> RunResult | ForwardResult:
    """Runs one golden file. Raises GoldenError where it cannot be read or followed."""
    golden = load_golden(path)
    try:
        return _compare_forwards(golden) if golden.meta is None else _compare_run(golden)
    except KeyError as error:
        raise GoldenError(f"it, or the JSON file beside it, lacks {error}") from error


def main(files: Sequence[str]) -> int:
    """Prints a line for each file; 0 where all are equal, 1 where one is not, 2 where one cannot be compared."""
    if not files:
        print("usage: golden FILE.npz [FILE.npz ...]", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # the models are so small that a second thread costs more than it gives
    worst = 0
    for file in files:
        try:
            result = compare(Path(file))
        except (GoldenError, tocache.TocacheError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            worst = 2
        except Exception as error:  # whatever a damaged file leads to: a message, not a traceback
            print(f"{file}: cannot be compared ({type(error).__name__}: {error})", file=sys.stderr)
            worst = 2
        else:
            print(result, flush=True)
            worst = max(worst, 0 if result.passed else 1)
    return worst


def _compare_forwards(golden: Golden) -> ForwardResult:
    outputs = forwards(golden, lambda size: build(golden, size))
    return ForwardResult(golden.name, max(relative_error(ours, recorded) for _, ours, recorded in outputs))


def _compare_run(golden: Golden) -> RunResult:
    transformer = build(golden, golden.required().get("size"))
    final, trace = run(golden, transformer, method(golden))
    columns = {((s.stack, s.kind, s.group), s.block): i for i, s in enumerate(trace.plan.sites)}
    equal, total = _selections(golden, trace, columns)
    return RunResult(
        name=golden.name,
        final_error=relative_error(final, golden.tensor("final")),
        tolerance=FRAGILE_TOLERANCE if golden.fragile() > FRAGILE_CHOICES else TOLERANCE,
        plan_equal=_layers_equal(golden, trace.plan) and _counts_equal(golden, trace.plan, columns),
        selections_equal=equal,
        selections=total,
    )


def method(golden: Golden) -> tocache.Method:
    """The method that the file's metadata describes. Raises GoldenError for settings it does not know."""
    meta = golden.required()
    settings = meta.get("cache", meta)
    interval, ratio = int(settings["fresh_threshold"]), float(settings["fresh_ratio"])
    scheduler = settings.get("ratio_scheduler", settings.get("fresh_ratio_schedule"))
    for name, known in (("cache_type", "attention"), ("force_fresh", "global")):
        if settings.get(name, known) != known:
            unknown(name, settings[name], known)
    recipe = _RECIPES.get((golden.family, scheduler))
    if recipe is None:
        unknown("ratio_scheduler", scheduler, ", ".join(s for family, s in _RECIPES if family == golden.family))
    staleness = settings.get("soft_fresh_weight")
    one_cycle = ratio == 0
    if golden.family == "opensora":
        cycle, one_cycle = _cycles(meta, ratio)
        if cycle != interval:  # `fresh_threshold` is the unit of staleness alone; ours has one interval for both
            staleness = (_STALENESS if staleness is None else staleness) * cycle / interval
        interval = cycle
    if one_cycle:
        return tocache.FORA(interval=interval)
    return tocache.ToCa(
        interval=interval,
        fresh_ratio=ratio,
        recipe=recipe,
        ratio="constant" if scheduler == "constant" else "weighted",
        staleness=staleness,
    )


def _cycles(meta: Mapping[str, Any], ratio: float) -> tuple[int, bool]:
    """Open-Sora's cycle, and whether cross-attention has it too (FORA) instead of one twice as long (ToCa).

    The published code has the cycles in its source: no option tells them, only the full steps that the metadata lists.
    With fresh tokens, `ratio` > 0, cross-attention's is twice as long in everything that tocache can be asked for.
    """
    recorded, steps = meta["full_steps"], range(int(meta["steps"]))
    for cycle in range(1, len(steps) + 1):
        once, twice = ([s for s in steps if s < _OPENSORA_WARMUP or s % c == 0] for c in (cycle, 2 * cycle))
        if recorded["attn"] == recorded["mlp"] == once:
            if recorded["cross-attn"] == twice:
                return cycle, False
            if recorded["cross-attn"] == once and ratio == 0:
                return cycle, True
    unknown("full_steps", recorded, "0, 1, 2 and the multiples of a cycle, which cross-attention's may be twice")


def run(golden: Golden, transformer: nn.Module, how: tocache.Method) -> tuple[Tensor, tocache.Trace]:
    """The final latent of the file's loop around `transformer`, cached by `how`, and what was chosen."""
    tocache.enable(transformer, how)
    try:
        with (
            tocache.trace(transformer) as trace,
            tocache.run(transformer, timesteps=timesteps(golden), cfg=CFG[golden.family]) as running,
        ):
            final = sample(golden, transformer, running.step)
        return final, trace
    finally:
        tocache.disable(transformer)


def _layers_equal(golden: Golden, plan: tocache.Plan) -> bool:
    """Whether the same blocks are full: computed whole at every site."""
    if golden.family == "opensora":
        return _kinds_equal(golden, plan)
    for stack in dict.fromkeys(site.stack for site in plan.sites):
        blocks = range(1 + max(site.block for site in plan.sites if site.stack == stack))
        ours = [(_amounts(plan, stack, block) == -1).all(axis=1) for block in blocks]
        if not np.array_equal(np.stack(ours, axis=1), _recorded_layers(golden, len(blocks), plan.steps)):
            return False
    return True


def _kinds_equal(golden: Golden, plan: tocache.Plan) -> bool:
    """Whether the same steps are full for each kind of module, in every block."""
    modules = {"temporal-attention": "attn", "self-attention": "attn", "cross-attention": "cross-attn", "mlp": "mlp"}
    full = plan.fresh[:, 0] == -1
    return all(
        np.array_equal(np.flatnonzero(full[:, i]), golden.arrays[f"full_{modules[site.kind]}"])
        for i, site in enumerate(plan.sites)
    )


def _amounts(plan: tocache.Plan, stack: str, block: int) -> NDArray[np.int32]:
    columns = [i for i, site in enumerate(plan.sites) if (site.stack, site.block) == (stack, block)]
    return plan.fresh[:, 0, columns]


def _recorded_layers(golden: Golden, blocks: int, steps: int) -> NDArray[np.bool_]:
    """(steps, blocks) True where the recorded run computed the whole block."""
    if "layer_full" in golden.arrays:
        layers: NDArray[np.bool_] = golden.arrays["layer_full"] == 1
        return layers
    full = np.isin(np.arange(steps), golden.arrays["full_steps"])
    return np.repeat(full[:, None], blocks, axis=1)


def _counts_equal(golden: Golden, plan: tocache.Plan, columns: Sites) -> bool:
    """Whether as many tokens are computed everywhere (-1 for all of them, on both sides)."""
    for name, group in _COUNTS[golden.family].items():
        recorded = golden.arrays[name]
        ours = plan.fresh[:, 0, [columns[group, block] for block in range(recorded.shape[1])]]
        if not np.array_equal(ours, recorded):
            return False
    return True


def _selections(golden: Golden, trace: tocache.Trace, columns: Sites) -> tuple[int, int]:
    """How many of the recorded choices are the same sets of tokens in every row, and how many there are."""
    numbers = golden.arrays.get("step_order", np.arange(trace.plan.steps)).tolist()
    equal = total = 0
    for name in golden.arrays:
        if name.startswith("idx_"):
            step, group, block = _parse_choice(name)
            site = trace.plan.sites[columns[group, block]].name
            chosen = trace.choices.get((numbers.index(step), 0, site))
            total += 1
            equal += chosen is not None and _same_tokens(chosen, golden.tensor(name))
    return equal, total


def _parse_choice(name: str) -> tuple[int, Group, int]:
    parts: Any = re.fullmatch(r"idx_step(\d+)_(?:(double|single|spatial|temporal)_)?layer(\d+)_(.+)", name)
    group = _MODULES.get((parts[2], parts[4])) if parts else None
    if group is None:
        unknown("choice", name, "idx_step<number>_[double_|single_|spatial_|temporal_]layer<number>_<module>")
    return int(parts[1]), group, int(parts[3])


def _same_tokens(ours: Tensor, recorded: Tensor) -> bool:
    """(rows, k) both; the order within a row does not matter, for each token is computed alone."""
    return torch.equal(ours.sort(dim=1).values, recorded.long().sort(dim=1).values)
