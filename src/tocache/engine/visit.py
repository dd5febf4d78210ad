"""One site in one pass, and what the handlers of modules have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tocache.engine.deferred import ChosenRows, gathers
from tocache.engine.pass_run import PassRun
from tocache.kernels import gather_rows
from tocache.plan.plan import ALL

Again = Callable[..., Any]
ModuleHandler = Callable[[PassRun, torch.Tensor, Again], Any]


class Visit:
    """One site in one pass: what it computes, decided where its tokens are first seen."""

    __slots__ = ("amount", "index", "run", "site")

    def __init__(self, run: PassRun, name: str, x: torch.Tensor) -> None:
        self.run, self.site = run, run.index[name]
        self.amount = run.amount(self.site)
        self.index = run.choose(self.site, x, self.amount) if self.amount > 0 else None

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """What of `x` (rows, tokens, width) has to be computed: all, the fresh tokens, or one that nobody reads."""
        if self.amount == ALL:
            return x
        return x[:, :1] if self.index is None else gather_rows(x, self.index)

    def take_for_norm(self, x: torch.Tensor) -> Any:
        """`take`, for a norm: tokens may be gathered later, when they are modulated."""
        deferred = self.index is not None and gathers(x)
        return ChosenRows(x, self.index) if deferred and self.index is not None else self.take(x)

    def finish(self, compute: Callable[[], torch.Tensor]) -> Any:
        """The site's output (rows, tokens, width); `compute` runs the module on what `take` gave."""
        if self.amount == ALL:
            return self.run.write(self.site, compute())
        if self.index is None:
            return self.run.give(self.site)
        return self.run.blend(self.site, compute(), self.index)


def in_parts(run: PassRun, joined: torch.Tensor, groups: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """A stream (rows, tokens of all groups, width) as one tensor for each of its groups."""
    return torch.split(joined, [run.tokens(group) for group in groups], dim=1)
