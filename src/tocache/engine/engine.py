"""The engine: one per transformer. It wires the model, follows its forwards, and owns the run."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tocache.engine.ahead import Ahead
from tocache.engine.deferred import settled
from tocache.engine.graphs import Compiled, StepGraphs
from tocache.engine.intercept import Call, Handler, intercept, plain_class, release
from tocache.engine.layers import layer_of
from tocache.engine.model_facts import refuse_training
from tocache.engine.record import Record
from tocache.engine.regions import BlockHandler, RegionLayer
from tocache.engine.run import Planner, Run, clock_of
from tocache.engine.visit import ModuleHandler
from tocache.engine.wiring import Conditioned, Family, Guidance, TokenWise
from tocache.errors import AttachError, RunError, TocacheWarning
from tocache.plan.anatomy import REGION, Anatomy
from tocache.plan.plan import Plan

FEW_STEPS = 8

ChoiceListener = Callable[[int, int, str, torch.Tensor], None]
OutputListener = Callable[[int, int, str, torch.Tensor], torch.Tensor | None]


class Engine:
    """Caches one transformer by the plans of one method, from `attach` to `detach`.

    `others` are transformers built alike that take turns with it within a run, as in Wan 2.2. What is `conditioned` is
    computed for all steps of a run at once.

    Raises AttachError where a module is not where the family says it is, or one of `others` is built otherwise.
    """

    def __init__(
        self,
        transformer: torch.nn.Module,
        family: Family,
        planner: Planner,
        owner: Any = None,
        others: Sequence[torch.nn.Module] = (),
        conditioned: Conditioned | None = None,
    ) -> None:
        self.transformer = transformer
        self.transformers = (transformer, *others)
        self.family = family
        self.planner = planner
        self.owner = owner
        self.conditioned = conditioned
        self.run: Run | None = None
        self.explicit = False  # the run was opened by hand: schedulers do not count
        self.record = Record()  # of the newest run, also after its end
        self.guidance = Guidance()
        self.graphs: StepGraphs | None = None  # of compiled steps
        self.on_choice: list[ChoiceListener] = []
        self.on_step: list[Callable[[Record], None]] = []
        self.on_output: list[OutputListener] = []
        self._signature = inspect.signature(plain_class(transformer).forward)
        self._wired: dict[tuple[int, str], torch.nn.Module] = {}  # by the transformer's number and the path
        self._handlers: dict[str, Handler]
        self._regions: dict[str, Handler] = {}
        self._chunkable: dict[str, str]  # block path → site whose module it may call in chunks
        self._warned: set[str] = set()
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._find_handlers()

    # ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _find_handlers(self) -> None:
        layers = self._layers = self.family.layers(self.transformer)
        self._handlers, self._chunkable = {}, {}
        for other in self.transformers[1:]:
            if self.family.layers(other) != layers:
                raise AttachError(f"the pipeline's two {plain_class(other).__name__} are not built alike")
        for wiring in layers:
            for path, handler in layer_of(wiring).handlers().items():
                self._module(path)
                self._handlers[path] = partial(self._call_module, handler)
            if isinstance(wiring, TokenWise):
                self._chunkable[wiring.module.rpartition(".")[0]] = wiring.site
        for path in () if self.conditioned is None else self.conditioned.paths:
            self._module(path)
            self._handlers[path] = partial(self._call_conditioned, path)

    def attach(self) -> None:
        """Wires the model."""
        for transformer in self.transformers:
            intercept(transformer, {"__call__": partial(self._call_transformer, transformer)}, owner=self.owner)
        self._wire()

    def detach(self) -> None:
        """Undoes `attach`, and frees everything cached."""
        self.close()
        self._unwire()
        for transformer in self.transformers:
            release(transformer)

    def _unwire(self) -> None:
        for module in self._wired.values():
            release(module)
        self._wired.clear()

    def _follow_layers(self) -> None:
        """Wires the sites that the model has now."""
        if self.family.layers(self.transformer) != self._layers:  # an IP-Adapter came or went: attentions return more
            self._unwire()
            self._find_handlers()
            self._plans.clear()
        self._wire()

    def _wire(self) -> None:
        """Intercepts the modules that stand at the wired paths now: a LoRA may have put others there."""
        wanted = self._handlers | self._regions
        for (number, path), module in list(self._wired.items()):
            if path not in wanted or self._module(path, number) is not module:
                release(self._wired.pop((number, path)))
        for number in range(len(self.transformers)):
            for path, handler in wanted.items():
                if (number, path) not in self._wired:
                    module = self._wired[number, path] = self._module(path, number)
                    intercept(module, {"__call__": handler})

    def _wire_regions(self, plan: Plan) -> None:
        stacks = {stack.path: stack for stack in self.family.stacks(self.transformer)}
        for number, path in list(self._wired):
            if path in self._regions:  # their handlers belong to the regions of another plan
                release(self._wired.pop((number, path)))
        self._regions = {}
        for site in (s for s in plan.sites if s.kind == REGION):
            paths = [f"{site.stack}.{b}" for b in range(site.block, site.block + site.span)]
            layer = RegionLayer(site, stacks[site.stack], [self._module(path) for path in paths])
            for position, path in enumerate(paths):
                self._regions[path] = partial(self._call_block, layer.handler(position))
        self._wire()

    def _module(self, path: str, number: int = 0) -> torch.nn.Module:
        try:
            return self.transformers[number].get_submodule(path)
        except AttributeError as error:
            name = plain_class(self.transformer).__name__
            raise AttachError(
                f"{name} has no module {path!r}, where its family {self.family.name!r} says one is"
            ) from error

    def compile(self, how: Compiled | None, other: Engine | None = None) -> None:
        """From the next run on steps are compiled, or, by None, run as they are.

        The graphs that `other` has made go on serving, if it has the same transformers.
        """
        self.close()
        self._plans.clear()
        old = other.graphs if other is not None and other.transformers == self.transformers else None
        self.graphs = old if old is not None and old.how == how else None if how is None else StepGraphs(how)

    def listen_like(self, other: Engine) -> None:
        """Tells the listeners of another engine, too, which goes on knowing them."""
        self.on_choice, self.on_step, self.on_output = other.on_choice, other.on_step, other.on_output

    # ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, times: Callable[[], Any], *, guidance: Guidance | None = None, explicit: bool = False) -> None:
        """Begins a run with a step at each of `times()`, a tensor or a sequence, asked when the first forward comes.

        An unfinished one is given up.

        An `explicit` run is opened by hand; until it is closed, no scheduler begins another.
        """
        if self.explicit and not explicit:
            return
        if self.explicit:
            raise RunError("a run of this transformer is open already; leave it before you open another")
        self.close()
        self._follow_layers()
        if self.graphs is not None:
            self.graphs.begin(self.transformers, self._warn)
        self._announced = times
        self.explicit = explicit
        self.run = Run(
            passes=(guidance or self.guidance).passes,
            planner=self._plan,
            anatomy=lambda shape: self.family.anatomy(self.transformer, shape),
            on_choice=self._tell_choice if self.on_choice else None,
            on_output=self._tell_output if self.on_output else None,
        )

    def tick(self) -> None:
        """Ends a step; after the last one the run is over."""
        run = self.run
        if run is None:
            return
        run.tick()
        for listener in self.on_step:
            listener(run.record)
        if run.steps is not None and run.step >= run.steps and not self.explicit:
            self.close()

    def close(self) -> None:
        """Ends the run, if there is one, and frees what it cached; its record stays."""
        if self.run is not None:
            self.run.clear()
        self.run, self.explicit = None, False

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _call_transformer(
        self, transformer: torch.nn.Module, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        run = self.run
        if run is None:
            self._warn(
                "the transformer runs outside of any run (no scheduler began one, and no tocache.run(…) is open): "
                "everything is computed"
            )
            return call(*args, **kwargs)
        refuse_training(transformer)
        arguments = self._signature.bind(None, *args, **kwargs).arguments
        shape = self.family.measure(transformer, arguments)
        if run.steps is None:
            schedule = self._announced()
            run.times = clock_of(schedule)
            if self.conditioned is not None:
                run.ahead = Ahead(self.conditioned, schedule, self._warn)
            run.steps = len(run.times)
            self._follow_layers()  # of a model that is not listed, the first forward tells them
        if not run.enter(shape, partial(self._grid, arguments), transformer):
            self._warn(f"the run cannot be followed ({run.lost}): everything is computed")
            return call(*args, **kwargs)
        assert run.now is not None
        run.now.alike = self.family.alike(transformer, arguments)
        run.now.present, run.now.arguments = partial(self.family.present, transformer), arguments
        self.record = run.record
        self._prepare(run)
        copied = run.copied()
        try:
            if run.ahead is not None and copied is None:
                run.modulate(run.ahead.rows(run.now, transformer, arguments))
            compute = call if self.graphs is None else partial(self.graphs, run, transformer, call)
            output = compute(*args, **kwargs) if copied is None else copied
        except BaseException:
            run.abort()
            raise
        run.leave(output)
        for module in run.record.unread:
            self._warn(
                f"{module} does not call scaled_dot_product_attention, so its tokens cannot be scored: "
                "what depends on their scores is computed"
            )
        return output

    def _prepare(self, run: Run) -> None:
        if not run.new_plan:
            return
        run.new_plan = False
        if any(site.kind == REGION for site in run.plan.sites) or self._regions:
            self._wire_regions(run.plan)
        run.refused = {
            run.plan.anatomies[0].index[site] for path, site in self._chunkable.items() if self._is_chunked(path)
        }
        if run.refused:
            self._warn("chunked feed-forwards call their MLP with part of the tokens: those MLPs are not cached")
        if run.plan.steps <= FEW_STEPS:
            self._warn(f"a run of {run.plan.steps} steps leaves caching little to save")

    def _is_chunked(self, path: str) -> bool:
        return getattr(self._module(path), "_chunk_size", None) is not None

    def _call_module(self, handler: ModuleHandler, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = self.run
        if run is None or run.now is None:
            return call(*args, **kwargs)
        if args:
            return handler(run.now, settled(args[0]), lambda x, **others: call(x, *args[1:], **kwargs | others))
        name = next(iter(kwargs))
        return handler(run.now, settled(kwargs[name]), lambda x, **others: call(**kwargs | {name: x} | others))

    def _call_conditioned(self, path: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        now = None if self.run is None else self.run.now
        rows = None if now is None else now.modulation.get(path)
        return call(*args, **kwargs) if rows is None else rows

    def _call_block(self, handler: BlockHandler, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = self.run
        if run is None or run.now is None:
            return call(*args, **kwargs)
        return handler(run.now, call, args, kwargs)

    def _grid(self, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
        return self.family.grid(self.transformer, arguments)

    def _plan(self, anatomies: Sequence[Anatomy], steps: int) -> Plan:
        """The planner's plan, made once for each shape and clock: planning every picture of a folder would cost."""
        key = (steps, *((repr(anatomy.shape), anatomy.times) for anatomy in anatomies))
        if key not in self._plans:
            if len(self._plans) >= 16:
                self._plans.clear()
            self._plans[key] = self.planner(anatomies, steps)
        return self._plans[key]

    def _tell_choice(self, step: int, number: int, site: str, index: torch.Tensor) -> None:
        for listener in self.on_choice:
            listener(step, number, site, index)

    def _tell_output(self, step: int, number: int, site: str, value: torch.Tensor) -> torch.Tensor:
        for listener in self.on_output:
            other = listener(step, number, site, value)
            value = value if other is None else other
        return value

    def _warn(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(f"tocache: {reason}", TocacheWarning, stacklevel=4)
