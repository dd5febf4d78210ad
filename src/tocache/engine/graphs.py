"""Compiled steps: a pass of a step as one graph, from the model's inputs and the cache to its output and the cache.

A row of the plan decides all that a pass does, so each kind of pass is traced once, with the engine's handlers in the
trace, and runs without them from then on: `torch.compile` gets plain tensor operations and no branch of ours, and drops
what nobody reads, such as norms and modulations before a sub-layer that is served. What differs between two passes of a
kind are numbers, and those are inputs (see `graph_state` and `tracing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from tocache.engine.graph_state import moments_of, put_together, take_apart
from tocache.engine.intercept import Call
from tocache.engine.model_facts import Fingerprint, cannot_be_a_graph
from tocache.engine.static_memory import StaticMemory
from tocache.engine.tracing import Graph, Taken, numbers_of, trace

if TYPE_CHECKING:
    from tocache.engine.run import Run

_REUSES_MEMORY = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile with CUDA graphs."""


@dataclass(frozen=True)
class Compiled:
    """How steps are compiled.

    multiple  amounts of tokens are raised to multiples of it
    most      graphs of one plan, at most; kinds of passes beyond them run as they are
    options   of `torch.compile`, for every graph
    """

    multiple: int = 1
    most: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> bool:
        """Whether there are CUDA graphs: each writes over its outputs when it runs again, which a cache outlives."""
        asked = (self.options.get("options") or {}).get("triton.cudagraphs")
        return bool(asked) if asked is not None else self.options.get("mode") in _REUSES_MEMORY


class StepGraphs:
    """The graphs of one transformer, or of several built alike, by kind of pass; they outlive a change of method."""

    def __init__(self, how: Compiled) -> None:
        self.how = how
        self.tell: Callable[[str], None] = lambda reason: None
        self.graphs: dict[Any, Graph | None] = {}  # None where a trace has failed
        self.memory = StaticMemory()  # of what is cached, where graphs are recorded
        self._warm: set[Any] = set()
        self._fingerprint: Fingerprint | None = None
        self._why: dict[int, str | None] = {}
        self._plans: dict[Any, int] = {}
        self._plan: tuple[Any, int] | None = None

    @property
    def count(self) -> int:
        """How many graphs there are of the newest plan, and of those that differ from it in their tables alone."""
        own = None if self._plan is None else self._plan[1]
        return sum(graph is not None for (_, number, *_), graph in self.graphs.items() if number == own)

    def begin(self, models: Sequence[torch.nn.Module], tell: Callable[[str], None]) -> None:
        """Before a run: the graphs of models that have changed since the last one are dropped.

        `tell` is told, in words, of what runs without a graph.
        """
        self.tell = tell
        found = Fingerprint(*models)
        if found != self._fingerprint:
            self.graphs.clear()
            self.memory.clear()
            self._warm.clear()
        self._fingerprint = found
        self._why = {id(model): cannot_be_a_graph(model) for model in models}

    def __call__(self, run: Run, model: object, call: Call, /, *args: Any, **kwargs: Any) -> Any:
        """The pass that `run` has entered: by its graph where there can be one, or by `call`."""
        now = run.now
        assert now is not None
        leaves, spec = tree_flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)] + [*now.modulation.values()]
        why = self._why_not(run, model, leaves)
        if why is not None:
            self.tell(f"not compiled: {why}")
            return call(*args, **kwargs)
        moments = moments_of(now)
        before, cached = take_apart(now, moments)
        ahead = _facts([*now.modulation.values()])
        given = (id(model), repr(spec), _facts(leaves), ahead, _modes(inputs[0].device.type))
        key = (given, self._number_of(run), now.kind, before, _facts(cached))
        if key not in self.graphs:
            if self.count >= self.how.most:
                self.tell(
                    f"not compiled: more than {self.how.most} kinds of steps; plans with rounded amounts have fewer"
                )
                return call(*args, **kwargs)
            self._warm_up(run, given, call, args, kwargs)
            self.graphs[key] = self._graph(run, call, leaves, spec, Taken(before, cached, moments))
        graph = self.graphs[key]
        if graph is None:
            return call(*args, **kwargs)
        if self.how.records:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # nothing of what other graphs gave is read any more
        numbers = numbers_of(run, moments, graph.asked, graph.draws, graph.samples, inputs[0].device)
        with torch.autocast(inputs[0].device.type, enabled=False):  # the casts are in the graph
            results = graph.run(*inputs, *cached, *numbers)
        output, new = list(results[: graph.outputs]), results[graph.outputs :]
        if self.how.records:
            output = [result.clone() for result in output]
            held = self.memory.place(now.number, graph.after, graph.sources, cached, new)
        else:
            held = [cached[number] if old else new[number] for old, number in graph.sources]
        put_together(now, graph.after, held, moments)
        graph.note(run, now)
        return tree_unflatten(output, graph.output)

    def _warm_up(self, run: Run, given: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the first trace with such inputs: what a model computes once and keeps must not be kept by a trace."""
        if given not in self._warm:
            now, run.now = run.now, None
            try:
                call(*args, **kwargs)
            finally:
                run.now = now
            self._warm.add(given)

    def _graph(self, run: Run, call: Call, leaves: Sequence[Any], spec: Any, taken: Taken) -> Graph | None:
        try:
            return trace(run, call, leaves, spec, taken, self.how.options)
        except Exception as error:  # whatever a model does that no graph can hold
            self.tell(f"not compiled: {type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}")
            return None

    def _number_of(self, run: Run) -> int:
        """One number for all plans with the same policy and the same anatomies: their tables may differ."""
        if self._plan is None or self._plan[0] is not run.plan:
            same = repr((run.plan.policy, run.plan.anatomies))
            self._plan = (run.plan, self._plans.setdefault(same, len(self._plans)))
        return self._plan[1]

    def _why_not(self, run: Run, model: object, leaves: Sequence[Any]) -> str | None:
        policy = run.plan.policy
        if policy.clusters or policy.offload:
            return "a plan with tokens in clusters" if policy.clusters else "features in the host's memory"
        if run.on_choice is not None or run.on_output is not None:
            return "somebody looks at choices or outputs"
        if torch.is_grad_enabled():
            return "gradients are recorded; draw under torch.no_grad()"
        odd = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor | int | float | str | None)]
        if odd:
            return f"an input of type {type(odd[0]).__name__}"
        return self._why[id(model)]


def _facts(leaves: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves
    )


def _modes(device: str) -> tuple[Any, ...]:
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return autocast, torch.is_inference_mode_enabled()
