"""What a pass reads and writes between its inputs and its output, taken apart: tensors, and the structure around them.

A graph is a function of tensors. Steps are numbers that differ in each of its runs, so a structure names them by their
place among the run's moments: the steps that the cache knows of, in order, and the present one after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tocache.engine.pass_run import PassRun
from tocache.features import Kept, Packed


@dataclass(frozen=True)
class Structure:
    """The cache of one pass without its tensors and steps, of which it holds the numbers; −1 is nothing.

    kept     by site, for each feature: its step, its data, its scale, its dtype
    maps     by site: base scores and what was read of them
    full_at  by site: the step at which all of its scope was full
    numbers  by site: ages, drift, keys and values of its attention
    chosen   what the step has chosen so far: (pass, scope's last site), and the tokens
    """

    kept: tuple[tuple[tuple[int, int, int, torch.dtype], ...], ...]
    maps: tuple[tuple[tuple[str, int], ...], ...]
    full_at: tuple[int, ...]
    numbers: tuple[tuple[int, int, int, int], ...]
    chosen: tuple[tuple[tuple[int, int], int], ...]


def moments_of(now: PassRun) -> list[int]:
    """The steps that the cache of this pass knows of, in order, and the present one."""
    kept = {feature.step for features in now.cache.kept for feature in features}
    return [*sorted(kept | set(now.cache.full_at)), now.step]


def take_apart(now: PassRun, moments: Sequence[Any]) -> tuple[Structure, list[torch.Tensor]]:
    """The structure and the tensors of what pass `now` may read; `moments` hold the very steps that the cache holds."""
    cache = now.cache
    places = {_name(moment): i for i, moment in enumerate(moments)}
    tensors: list[torch.Tensor] = []

    def number(tensor: torch.Tensor | None) -> int:
        if tensor is None:
            return -1
        tensors.append(tensor)
        return len(tensors) - 1

    def place(step: Any) -> int:
        return places[_name(step)]

    structure = Structure(
        kept=tuple(
            tuple((place(f.step), number(f.packed.data), number(f.packed.scale), f.packed.dtype) for f in features)
            for features in cache.kept
        ),
        maps=tuple(tuple((name, number(read)) for name, read in scores.items()) for scores in cache.maps),
        full_at=tuple(map(place, cache.full_at)),
        numbers=tuple(
            (number(ages), number(drift), *(map(number, pairs) if pairs else (-1, -1)))
            for ages, drift, pairs in zip(cache.fresh_at, cache.drift, cache.pairs, strict=True)
        ),
        chosen=tuple((key, number(index)) for key, index in now.run.chosen.items()),
    )
    return structure, tensors


def put_together(now: PassRun, structure: Structure, tensors: Sequence[torch.Tensor], moments: Sequence[Any]) -> None:
    """Gives pass `now` the cache that `structure` tells, of these tensors and moments; undoes `take_apart`."""
    cache = now.cache

    def tensor(number: int) -> torch.Tensor | None:
        return None if number < 0 else tensors[number]

    cache.kept = [
        [Kept(moments[step], Packed(tensors[data], tensor(scale), dtype)) for step, data, scale, dtype in features]
        for features in structure.kept
    ]
    cache.maps = [{name: tensors[number] for name, number in scores} for scores in structure.maps]
    cache.full_at = [moments[step] for step in structure.full_at]
    cache.fresh_at = [tensor(ages) for ages, *_ in structure.numbers]
    cache.drift = [tensor(drift) for _, drift, *_ in structure.numbers]
    cache.pairs = [(tensors[keys], tensors[values]) if keys >= 0 else None for *_, keys, values in structure.numbers]
    now.run.chosen = {key: tensors[number] for key, number in structure.chosen}


def _name(step: Any) -> Any:
    """Steps of a graph in the making are tensors, and two of these are the same only if they are one."""
    return id(step) if isinstance(step, torch.Tensor) else step
