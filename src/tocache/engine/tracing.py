"""Makes a graph of one pass: the engine runs the model as ever, on tensors that only note what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from tocache.engine.graph_state import Structure, put_together, take_apart
from tocache.engine.intercept import Call
from tocache.engine.pass_run import PassRun
from tocache.engine.queries import SampledQueries
from tocache.engine.record import Record
from tocache.features import Forecast
from tocache.kernels import sent

if TYPE_CHECKING:
    from tocache.engine.run import Run

_WEIGHTS = 256  # that all forecasts of a pass may take together

Asked = tuple[int, tuple[int, ...]]
"""What a forecast must know: its order, and the moments at which its features were computed."""


class Unsuited(Exception):
    """A pass cannot be a graph; says why."""


@dataclass
class Taken:
    """The cache of a pass before it, taken apart."""

    structure: Structure
    tensors: Sequence[torch.Tensor]
    moments: Sequence[int]


@dataclass
class Graph:
    """One kind of pass.

    run       from the inputs, the cache and `numbers_of` to the output's tensors, and those that are new in the cache
    outputs   how many tensors the output has, which is put together as `output` says
    after     structure of the cache afterwards
    sources   of its tensors: (True, number of one that the cache had), or (False, number of a new one)
    asked     by its forecasts, in the order of their weights
    draws     how many random scores are drawn
    samples   whether attentions are read by a sample of their queries
    computed  by site, as `PassRun.computed`
    effects   on the run's record; the most bytes that this pass's own cache held
    weighed   the cache's bytes afterwards
    """

    run: Callable[..., Sequence[torch.Tensor]]
    outputs: int
    output: Any
    after: Structure
    sources: list[tuple[bool, int]]
    asked: list[Asked]
    draws: int
    samples: bool
    computed: list[int]
    effects: Record
    weighed: Any

    def note(self, run: Run, now: PassRun) -> None:
        """Has on the records of the run the effect that the pass would have had."""
        now.computed = list(self.computed)
        now.cache.weighed = self.weighed
        total, device = run.held_bytes()
        record, effects = run.record, self.effects
        record.overruled += effects.overruled
        record.unread |= effects.unread
        record.peak_bytes = max(record.peak_bytes, total - now.cache.held + effects.peak_bytes)
        others = device - now.cache.held_device
        record.peak_device_bytes = max(record.peak_device_bytes, others + effects.peak_device_bytes)


def trace(run: Run, call: Call, leaves: Sequence[Any], spec: Any, taken: Taken, options: Mapping[str, Any]) -> Graph:
    """The graph of the pass that `run` has entered, compiled; run and cache are as they were afterwards.

    `leaves` and `spec` are the arguments of `call`, flat. Raises Unsuited, or whatever the model raises where it asks
    for the values of tensors.
    """
    assert run.now is not None
    now = run.now
    inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)] + [*now.modulation.values()]
    made: dict[str, Any] = {}

    def forward(*flat: torch.Tensor) -> list[torch.Tensor]:
        traced = {id(real): each for real, each in zip(inputs, flat, strict=False)}
        args, kwargs = tree_unflatten([traced.get(id(leaf), leaf) for leaf in leaves], spec)
        cached = flat[len(inputs) : len(inputs) + len(taken.tensors)]
        clock, weights, *drawn = flat[len(inputs) + len(cached) :]
        table = None if now.sampled is None else drawn.pop(0)
        numbers = _Numbers(clock.unbind(), weights.unbind(), table, drawn)
        with _traced(run, now, numbers, taken, cached) as effects:
            now.modulation = {path: traced[id(rows)] for path, rows in now.modulation.items()}
            now.arguments = tree_map(lambda leaf: traced.get(id(leaf), leaf), dict(now.arguments))
            output, how = tree_flatten(call(*args, **kwargs))
            if run.lost is not None or not all(isinstance(leaf, torch.Tensor) for leaf in output):
                raise Unsuited(run.lost or "its output is more than tensors")
            after, held = take_apart(now, numbers.moments)
            new, sources = _sources(held, cached)
            made.update(outputs=len(output), output=how, after=after, sources=sources)
            made.update(asked=list(numbers.slots), draws=numbers.drawn, samples=numbers.sampled)
            made.update(computed=list(now.computed), effects=effects, weighed=now.cache.weighed)
        return [*output, *new]

    flat = [*inputs, *taken.tensors, *numbers_of(run, taken.moments, [], 0, False, inputs[0].device)]
    traced = make_fx(forward, tracing_mode="fake", _allow_non_fake_inputs=True)(*flat)
    return Graph(run=torch.compile(traced, fullgraph=True, dynamic=False, **options), **made)


def numbers_of(
    run: Run, moments: Sequence[int], asked: Sequence[Asked], draws: int, samples: bool, device: torch.device
) -> list[torch.Tensor]:
    """What differs between two passes of a kind: moments, weights of forecasts, the table of sampled queries, and
    random scores (1, tokens) each."""
    now = run.now
    assert now is not None
    hows = {how.order: how for how in (*run.hows, *([] if run.how is None else [run.how]))}
    weights = [w for order, at in asked for w in hows[order].weights(tuple(moments[i] for i in at), now.step)]
    weights += [0.0] * (_WEIGHTS - len(weights))
    clock = torch.tensor(list(moments), dtype=torch.int32)
    numbers = [sent(clock, device), sent(torch.tensor(weights, dtype=torch.float32), device)]
    if now.sampled is not None:
        numbers.append(now.sampled.draw(now.step, device) if samples else now.sampled.nothing(device))
    if "random" in run.plan.policy.scores:
        counts = [now.tokens(now.plan.sites[i].group) for i, choice in enumerate(now.choices) if choice > 0]
        drawn = [run.draw(count, device) for count in counts[:draws]]
        numbers += drawn + [torch.zeros(1, count, device=device) for count in counts[draws:]]
    return numbers


@dataclass
class _Numbers:
    """The numbers of a pass in a trace, where all of them are tensors."""

    moments: Sequence[torch.Tensor]
    weights: Sequence[torch.Tensor]
    queries: torch.Tensor | None
    draws: Sequence[torch.Tensor]
    slots: dict[Asked, Sequence[torch.Tensor]] = field(default_factory=dict)
    drawn: int = 0
    sampled: bool = False

    def draw(self, tokens: int, device: torch.device) -> torch.Tensor:
        drawn = self.draws[self.drawn]
        self.drawn += 1
        if drawn.shape[1] != tokens:
            raise Unsuited("random scores are drawn in another order than sites run")
        return drawn

    def sample(self, how: SampledQueries, step: int, device: torch.device) -> torch.Tensor:
        assert self.queries is not None
        self.sampled = True
        return self.queries

    def ask(self, order: int, at: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        places = {id(moment): i for i, moment in enumerate(self.moments)}
        asked = (order, tuple(places[id(moment)] for moment in at))
        if asked not in self.slots:
            first = sum(map(len, self.slots.values()))
            if first + len(at) > _WEIGHTS:
                raise Unsuited(f"its forecasts take more than {_WEIGHTS} weights")
            self.slots[asked] = self.weights[first : first + len(at)]
        return self.slots[asked]


class _Asking:
    """Stands for a forecast in a trace."""

    def __init__(self, how: Forecast, numbers: _Numbers) -> None:
        self.order, self.low, self.numbers = how.order, how.low, numbers

    def weights(self, at: Sequence[torch.Tensor], step: torch.Tensor) -> Sequence[torch.Tensor]:
        return self.numbers.ask(self.order, at)


@contextmanager
def _traced(
    run: Run, now: PassRun, numbers: _Numbers, taken: Taken, cached: Sequence[torch.Tensor]
) -> Iterator[Record]:
    """While the pass is traced, its steps and its cache are tensors of the trace; yields what a run would record."""
    before: dict[str, Any] = {name: getattr(run, name) for name in ("record", "how", "hows", "draw", "sample")}
    step, computed, weighed, arguments = now.step, list(now.computed), now.cache.weighed, now.arguments
    modulation = now.modulation
    total, device = run.held_bytes()
    others, others_on_device = total - now.cache.held, device - now.cache.held_device
    given: dict[str, Any] = {
        "record": Record(plan=run.record.plan, lifetimes=run.record.lifetimes),
        "how": None if run.how is None else _Asking(run.how, numbers),
        "hows": [_Asking(how, numbers) for how in run.hows],
        "draw": numbers.draw,
        "sample": numbers.sample,
    }
    run.__dict__.update(given)
    queries, now._queries = now._queries, None
    now.__dict__["step"] = numbers.moments[-1]
    now.__dict__.pop("padding", None)
    put_together(now, taken.structure, cached, numbers.moments)
    try:
        yield given["record"]
        effects: Record = given["record"]
        effects.peak_bytes = max(0, effects.peak_bytes - others)
        effects.peak_device_bytes = max(0, effects.peak_device_bytes - others_on_device)
    finally:
        run.__dict__.update(before)
        now.step, now.computed, now.cache.weighed, now.arguments = step, computed, weighed, arguments
        now.modulation, now._queries = modulation, queries
        now.__dict__.pop("padding", None)
        run.best.clear()
        put_together(now, taken.structure, taken.tensors, taken.moments)


def _sources(
    held: Sequence[torch.Tensor], before: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[tuple[bool, int]]]:
    """The tensors of `held` that the cache did not have before, and where each of `held` comes from."""
    known = {_memory(tensor): i for i, tensor in enumerate(before)}
    new: list[torch.Tensor] = []
    sources = []
    for tensor in held:
        place = known.get(_memory(tensor))  # also what was written in place
        sources.append((place is not None, len(new) if place is None else place))
        if place is None:
            new.append(tensor)
    return new, sources


def _memory(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
