"""The forwards of a transformer within a run: left out, or made again with something else in a layer's place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from tocache.engine.engine import Engine
from tocache.engine.run import Run
from tocache.plan.anatomy import COND_UNCOND, Site
from tocache.session import required

Call = Callable[..., Any]


class Forward:
    """One forward of the transformer, which can be made again as often as is needed.

    step, number   where it stands: the step, and the pass within it
    """

    def __init__(self, run: Run, channels: int | None, call: Callable[[], Any], blocks: Blocks) -> None:
        assert run.steps is not None
        self.channels = channels  # of the latents
        self.step, self.number, self.steps, self.plan = run.step, run.number, run.steps, run.plan
        self._call, self._blocks = call, blocks

    def make(self) -> Any:
        """The whole forward; what its blocks give is kept for `make_from`."""
        return self._blocks.record(self._call)

    def make_from(self, site: Site) -> Any:
        """The forward again from the block of `site` on: those before it give what they gave in the newest `make`.

        Saves the time of those blocks, half of the forward on average. What they compute must not have changed.
        """
        return self._blocks.resume(self._call, f"{site.stack}.{site.block}")


OnForward = Callable[[Forward], Any]


@contextmanager
def around_forwards(target: Any, on_forward: OnForward) -> Iterator[None]:
    """Within it `on_forward(forward)` stands for the transformer's forwards and returns what the model gives.

    Counts for runs of what is enabled on `target`. Raises NotEnabledError.
    """
    engine = required(target).engine
    blocks = Blocks(engine)
    with ExitStack() as stack:
        stack.enter_context(blocks.watched())
        for transformer in engine.transformers:
            channels = getattr(transformer.config, "in_channels", None)

            def replaced(call: Call, *args: Any, channels: int | None = channels, **kwargs: Any) -> Any:
                run = engine.run
                if run is None or run.now is None:
                    return call(*args, **kwargs)
                return on_forward(Forward(run, channels, lambda: call(*args, **kwargs), blocks))

            stack.enter_context(_replaced(transformer, replaced))
        yield


class Blocks:
    """The blocks of an engine's transformers in the order in which they run, and what they gave."""

    def __init__(self, engine: Engine) -> None:
        self._modules = [
            (f"{stack.path}.{number}", block)
            for transformer in engine.transformers
            for stack in engine.family.stacks(transformer)
            for number, block in enumerate(transformer.get_submodule(stack.path).children())
        ]
        self._given: dict[str, Any] = {}  # in running order
        self._known: set[str] = set()  # the blocks that do not run now
        self._recording = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        with ExitStack() as stack:
            for path, block in self._modules:
                stack.enter_context(_replaced(block, functools.partial(self._block, path)))
            yield
        self._given.clear()

    def record(self, call: Callable[[], Any]) -> Any:
        self._given.clear()
        self._recording = True
        try:
            return call()
        finally:
            self._recording = False

    def resume(self, call: Callable[[], Any], path: str) -> Any:
        order = list(self._given)
        self._known = set(order[: order.index(path)])
        try:
            return call()
        finally:
            self._known = set()

    def _block(self, path: str, call: Call, *args: Any, **kwargs: Any) -> Any:
        if path in self._known:
            return self._given[path]
        given = call(*args, **kwargs)
        if self._recording:
            self._given[path] = given
        return given


@contextmanager
def _replaced(module: torch.nn.Module, instead: Callable[..., Any]) -> Iterator[None]:
    """Within it `instead(forward, *args, **kwargs)` is called for the module's forward."""
    before = module.__dict__.get("forward")  # accelerate's hooks stand there
    forward = module.forward
    module.__dict__["forward"] = functools.wraps(forward)(functools.partial(instead, forward))
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


def answer_of(output: Any, forward: Forward, guidance: float) -> Tensor:
    """(pictures, …) float32 what the scheduler would make of a transformer's output: both halves as one, guided.

    Learned variances, which no supported solver reads, are left out. Rows that are no halves stay as they are.
    """
    answer: Tensor = output[0].detach().float()
    if forward.channels is not None and answer.dim() > 3 and answer.shape[1] == 2 * forward.channels:
        answer = answer.chunk(2, dim=1)[0]
    halves = forward.plan.anatomies[forward.number].shape.halves
    if halves is None:
        return answer
    first, second = answer.chunk(2)
    cond, uncond = (first, second) if halves == COND_UNCOND else (second, first)
    return uncond + guidance * (cond - uncond)


def length(answer: Tensor) -> Tensor:
    """(pictures,) float64 length of each picture's answer."""
    lengths: Tensor = torch.linalg.vector_norm(answer.double().flatten(1), dim=1)
    return lengths
