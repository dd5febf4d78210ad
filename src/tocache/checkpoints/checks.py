"""Whether the tensors of a checkpoint are those of a model, and what to say where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from tocache.errors import CheckpointError

StateDict = Mapping[str, Tensor]

_LISTED = 12  # names in one message; a wrong checkpoint can have thousands


def check_tensors(state: StateDict, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises CheckpointError, naming them, unless `state` holds just the names of `shapes`, in these shapes."""
    problems = []
    if missing := shapes.keys() - state.keys():
        problems.append(f"{len(missing)} missing: {listed(missing)}")
    if unexpected := state.keys() - shapes.keys():
        problems.append(f"{len(unexpected)} unexpected: {listed(unexpected)}")
    wrong = [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(shapes[name])}"
        for name in shapes.keys() & state.keys()
        if tuple(state[name].shape) != tuple(shapes[name])
    ]
    if wrong:
        problems.append(f"{len(wrong)} of another shape: {listed(wrong)}")
    if problems:
        raise CheckpointError("the tensors are not those of the model; " + "; ".join(problems))


def listed(names: Iterable[str]) -> str:
    """`names` sorted and joined, the first of them where there are many."""
    ordered = sorted(names)
    rest = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Begins the message of a CheckpointError from within with the file or folder that it is about."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error.__cause__
