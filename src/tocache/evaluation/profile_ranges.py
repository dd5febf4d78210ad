"""Ranges that a profiler sees: the modules of the sites, and what the engine does between them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from tocache.engine import pass_run, visit
from tocache.engine.follow import transformers_of
from tocache.engine.wiring import Attention, Fused, Layer, Merged, Shared
from tocache.models.registry import family_of
from tocache.plan import Plan
from tocache.plan.anatomy import MLP

ATTENTION_PART = "attention"
MLP_PART = "MLP"
BOTH_PART = "attention + MLP"  # where one module is both
CHOOSING = "choosing tokens"
READING = "attention scores"  # what tokens are ranked by, read off an attention's map
MOVING = "gather, scatter"  # and the norm, where one kernel does both
SERVING = "blending, forecast"  # and keeping; and gate and residual, where one kernel does both
REST = "rest of blocks"  # norms, modulation, residuals
OUTSIDE = "outside of blocks"
PARTS = (ATTENTION_PART, MLP_PART, BOTH_PART, CHOOSING, READING, MOVING, SERVING, REST, OUTSIDE)

# What the engine does, by where it is found. Kernels are looked up in every module that has imported one.
_METHODS = (
    (pass_run.PassRun, "choose", CHOOSING),
    (pass_run.PassRun, "write", SERVING),
    (pass_run.PassRun, "serve", SERVING),
    (pass_run.PassRun, "blend", SERVING),
    (visit.Visit, "take", MOVING),
)
_KERNELS = {
    "gather_rows": MOVING,
    "scatter_rows": MOVING,
    "modulated_rows": MOVING,
    "gated_residual": SERVING,
    "attention_column_sums": READING,
    "attention_entropy": READING,
}


@contextmanager
def ranges(pipe: Any, plan: Plan) -> Iterator[None]:
    """In a with-block, all that belongs to a part (PARTS) runs in a range of its name; afterwards nothing is left.

    `plan` tells the kinds of the sites. Ranges nest, and the innermost counts. Every thread has them, at about a
    microsecond for each call.
    """
    with ExitStack() as stack:
        for transformer in transformers_of(pipe):
            for path, part in _modules(transformer, plan).items():
                stack.enter_context(_around_module(transformer.get_submodule(path), part))
        for owner, name, part in _METHODS:
            stack.enter_context(_around_attribute(owner, name, part))
        for name, part in _KERNELS.items():
            for module in _engine_modules():
                if name in vars(module):
                    stack.enter_context(_around_attribute(module, name, part))
        yield


def _modules(transformer: Any, plan: Plan) -> Mapping[str, str]:
    """Part by path: blocks, and the modules of the sites in them."""
    family, kinds = family_of(transformer), {site.name: site.kind for site in plan.sites}
    found: dict[str, str] = {}
    for stack in family.stacks(transformer):
        for number in range(len(transformer.get_submodule(stack.path))):
            found[f"{stack.path}.{number}"] = REST
    for layer in family.layers(transformer):
        found |= _parts_of(layer, kinds)
    return found


def _parts_of(layer: Layer, kinds: Mapping[str, str]) -> dict[str, str]:
    if isinstance(layer, Fused):
        return {layer.attention: ATTENTION_PART, layer.mlp_in: MLP_PART, layer.mlp_out: MLP_PART}
    if isinstance(layer, Merged):
        return {layer.module: BOTH_PART}
    site = layer.sites[0] if isinstance(layer, Attention | Shared) else layer.site
    return {layer.module: MLP_PART if kinds.get(site) == MLP else ATTENTION_PART}


def _engine_modules() -> list[Any]:
    return [module for name, module in sys.modules.items() if name.startswith(("tocache.engine.", "tocache.kernels."))]


@contextmanager
def _around_module(module: torch.nn.Module, part: str) -> Iterator[None]:
    """A range around each forward of a module that really runs: what is served in its place never calls it."""
    entered: list[Any] = []

    def enter(*_: object) -> None:
        entered.append(torch.profiler.record_function(part))
        entered[-1].__enter__()

    def leave(*_: object) -> None:
        entered.pop().__exit__(None, None, None)

    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _around_attribute(owner: Any, name: str, part: str) -> Iterator[None]:
    original: Callable[..., Any] = vars(owner)[name]

    @functools.wraps(original)
    def ranged(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(part):
            return original(*args, **kwargs)

    setattr(owner, name, ranged)
    try:
        yield
    finally:
        setattr(owner, name, original)
