"""The engine: one per transformer. It follows its forwards, owns the run, and gives the warnings."""

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
from tocache.engine.intercept import Call, intercept, plain_class, release
from tocache.engine.model_facts import refuse_training
from tocache.engine.pass_run import PassRun
from tocache.engine.record import Record
from tocache.engine.regions import BlockHandler
from tocache.engine.run import Planner, Run, clock_of
from tocache.engine.visit import ModuleHandler
from tocache.engine.wires import Callers, Wires
from tocache.engine.wiring import Conditioned, Family, Guidance
from tocache.errors import RunError, TocacheWarning
from tocache.plan.anatomy import Anatomy
from tocache.plan.plan import Plan

FEW_STEPS = 8

ChoiceListener = Callable[[int, int, str, torch.Tensor], None]
OutputListener = Callable[[int, int, str, torch.Tensor], torch.Tensor | None]


class Engine:
    """Caches one transformer by the plans of one method, from `attach` to `detach`.

    `others` are transformers built alike that take turns with it within a run, as in Wan 2.2. What is `conditioned` is
    computed for all steps of a run at once.

    Raises AttachError as `Wires` does.
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
        self._warned: set[str] = set()
        self._plans: dict[tuple[Any, ...], Plan] = {}
        callers = Callers(self._call_module, self._call_conditioned, self._call_block)
        self.wires = Wires(family, self.transformers, conditioned, callers)

    # ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self) -> None:
        """Wires the model."""
        for transformer in self.transformers:
            intercept(transformer, {"__call__": partial(self._call_transformer, transformer)}, owner=self.owner)
        self.wires.put_up()

    def detach(self) -> None:
        """Undoes `attach`, and frees everything cached."""
        self.close()
        self.wires.take_down()
        for transformer in self.transformers:
            release(transformer)

    def _follow_layers(self) -> None:
        if self.wires.follow():
            self._plans.clear()

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
        if run is None or not run.here:
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
        if not run.here:
            self._warn(
                "the transformer runs in another thread than the one that began its run: there everything is computed, "
                "and nothing cached"
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
        self.wires.follow_regions(run.plan)
        run.refused = {run.plan.anatomies[0].index[site] for site in self.wires.chunked()}
        if run.refused:
            self._warn("chunked feed-forwards call their MLP with part of the tokens: those MLPs are not cached")
        if run.plan.steps <= FEW_STEPS:
            self._warn(f"a run of {run.plan.steps} steps leaves caching little to save")

    def _call_module(self, handler: ModuleHandler, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        now = self._now()
        if now is None:
            return call(*args, **kwargs)
        if args:
            return handler(now, settled(args[0]), lambda x, **others: call(x, *args[1:], **kwargs | others))
        name = next(iter(kwargs))
        return handler(now, settled(kwargs[name]), lambda x, **others: call(**kwargs | {name: x} | others))

    def _call_conditioned(self, path: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        now = self._now()
        rows = None if now is None else now.modulation.get(path)
        return call(*args, **kwargs) if rows is None else rows

    def _call_block(self, handler: BlockHandler, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        now = self._now()
        return call(*args, **kwargs) if now is None else handler(now, call, args, kwargs)

    def _now(self) -> PassRun | None:
        """The pass that this thread is in."""
        run = self.run
        return run.now if run is not None and run.here else None

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
