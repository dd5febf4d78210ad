"""Rename the tensors of a state dict and cut fused ones apart, with nothing lost and nothing guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tocache.checkpoints.checks import StateDict, check_tensors, listed
from tocache.errors import CheckpointError

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Rule:
    """One tensor of an original checkpoint and the model's tensors that its rows become, in order.

    How many rows each target gets is not said here: the target's own shape says it.
    """

    source: str
    targets: tuple[str, ...]
    swap_halves: bool = False  # scale and shift of a modulation come in the other order


def linear(source: str, *targets: str, swap_halves: bool = False) -> Iterator[Rule]:
    """The two rules, weight and bias, of a layer `source` that holds the layers `targets` one after the other."""
    for tensor in ("weight", "bias"):
        yield Rule(f"{source}.{tensor}", tuple(f"{target}.{tensor}" for target in targets), swap_halves)


def shapes_of(model: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """The shapes in the state dict of `model(**config)`, a module, without allocating its weights."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in model(**config).state_dict().items()}


def remap(state: StateDict, rules: Iterable[Rule], shapes: Shapes) -> dict[str, Tensor]:
    """The tensors of `state` under the names and in the shapes of a model's state dict; cut ones are views.

    Raises CheckpointError, naming them, where `state` lacks a rule's source, holds a tensor that no rule names or one
    of another shape, and where a name of `shapes` is left without a tensor.
    """
    rules = tuple(rules)
    check_tensors(state, {rule.source: _source_shape(rule, shapes) for rule in rules})
    renamed: dict[str, Tensor] = {}
    for rule in rules:
        tensor = state[rule.source]
        if rule.swap_halves:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        parts = torch.split_with_sizes(tensor, [shapes[target][0] for target in rule.targets])
        renamed.update(zip(rule.targets, parts, strict=True))
    if left := shapes.keys() - renamed.keys():
        raise CheckpointError(f"nothing in the checkpoint becomes {listed(left)} of the diffusers model")
    return renamed


def _source_shape(rule: Rule, shapes: Shapes) -> tuple[int, ...]:
    targets = [shapes[target] for target in rule.targets]
    return (sum(target[0] for target in targets), *targets[0][1:])
