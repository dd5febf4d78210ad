"""Sizes of a model, read from the names and shapes in its checkpoint."""

from __future__ import annotations

import re

from tocache.checkpoints.checks import StateDict
from tocache.errors import CheckpointError


def shape(state: StateDict, name: str, dims: int) -> tuple[int, ...]:
    """The shape of the tensor `name`; raises CheckpointError where it is missing or has not `dims` dimensions."""
    if name not in state:
        raise CheckpointError(f"the checkpoint lacks {name}, which tells the model's sizes")
    found = tuple(state[name].shape)
    if len(found) != dims:
        raise CheckpointError(f"{name} has shape {found}; expected {dims} dimensions")
    return found


def depth(state: StateDict, stack: str) -> int:
    """How many modules named `<stack>.<number>.` there are, counting up to the highest number.

    Raises CheckpointError where there is none.
    """
    numbers = [int(match[1]) for name in state if (match := re.match(rf"{re.escape(stack)}\.(\d+)\.", name))]
    if not numbers:
        raise CheckpointError(f"the checkpoint has no tensors named {stack}.0.…")
    return max(numbers) + 1
