"""The public calls: each puts the layers below together and decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from tocache.engine.engine import Engine, OutputListener
from tocache.engine.graphs import Compiled
from tocache.engine.record import Record
from tocache.engine.turn import turn_of
from tocache.engine.wiring import Guidance
from tocache.errors import OptionError, RunError
from tocache.methods import Method, Planned
from tocache.models.registry import family_of
from tocache.plan.anatomy import COND_UNCOND, UNCOND_COND
from tocache.plan.files import load_plan
from tocache.plan.plan import Plan
from tocache.presets import preset
from tocache.reports import Report
from tocache.session import Session, release, replaced_by, required, transformer_of

CFG = {
    None: Guidance(),
    COND_UNCOND: Guidance((("batch", COND_UNCOND),)),
    UNCOND_COND: Guidance((("batch", UNCOND_COND),)),
    "two-pass": Guidance((("cond", None), ("uncond", None))),
}


def enable(
    target: Any,
    method: Method | Plan | str | Path | None = None,
    *,
    resample: bool = False,
    storage: str | None = None,
    offload: bool | None = None,
    modulate_ahead: bool = False,
) -> None:
    """Caches a pipeline or a bare transformer from now on, in place; replaces what was enabled before.

    `method` is a method, a plan, the name of a preset, the path of a plan file (*.json), or None for the
    preset "balanced"; `resample` lets a plan be stretched to another number of steps. On a bare
    transformer, open a run around each sampling loop with `run`.

    `storage` keeps features in 8 bits ("int8", "fp8") instead of their own dtype ("same"); `offload` keeps them in the
    host's memory and fetches them shortly before they are read. None is what the plan says, which is neither unless
    it was saved so.

    `modulate_ahead` computes what depends on times and conditions alone, the modulations of DiT's, FLUX's and SD3's
    blocks, for all steps of a run in one product, and keeps it: at most 128 MiB for each pass of a step. The result is
    equal within rounding and not bit by bit, which is why it is off unless asked for. Steps whose times or conditions
    are not known to be those of the schedule compute it as ever, and a TocacheWarning says so.

    Raises UnsupportedModelError where no family serves the transformer, AttachError where it is not built as its
    family says, OptionError or PlanFileError for a method or an option that cannot be, PlanError for a method that this
    model cannot follow, PlanMismatchError for a plan of another model; nothing is changed then.
    """
    transformer = transformer_of(target)
    method = _method_of(method, family_of(transformer).name, resample)
    session = Session(target, method, storage, offload, modulate_ahead)
    session.check()
    before = replaced_by(target)
    if before is not None:
        session.engine.listen_like(before.engine)
        session.compile(before.compiled, before)
        before.detach()
    session.attach()


def compile(target: Any, *, multiple: int = 1, most: int = 32, **options: Any) -> None:
    """From now on the steps of an enabled pipeline or transformer are compiled; `disable` ends it.

    Each kind of step that a plan knows (full, reuse, every row of amounts) becomes one graph, with the choice of tokens
    and the cache in it, when it first comes; a later run makes no more. `multiple` raises amounts of tokens to its
    multiples, in the plan and so in its FLOPs, which makes rows equal that differ by a few tokens; beyond `most` graphs
    steps run as they are. `options` go to `torch.compile`: backend, mode, options. With mode="reduce-overhead", CUDA
    graphs, what is cached keeps its place in memory until `disable`.

    What cannot be a graph runs as it does without, and a TocacheWarning says why: hooks that offload weights, tokens in
    clusters, features in the host's memory, listeners (`trace`, `tap`), models that ask for the values of tensors.

    Raises NotEnabledError, and OptionError for another `multiple` or `most`.
    """
    for name, value in (("multiple", multiple), ("most", most)):
        if not isinstance(value, int) or value < 1:
            raise OptionError(f"{name}={value!r} is not allowed; allowed: an integer >= 1")
    required(target).compile(Compiled(multiple, most, options))


def disable(target: Any) -> None:
    """Takes the cache off a pipeline or transformer, which are then as they were; nothing happens without one."""
    release(target)


@contextmanager
def enabled(
    target: Any,
    method: Method | Plan | str | Path | None = None,
    *,
    resample: bool = False,
    storage: str | None = None,
    offload: bool | None = None,
    modulate_ahead: bool = False,
) -> Iterator[Any]:
    """`enable` for the length of a with-block; afterwards what was enabled before is enabled again."""
    before = replaced_by(target)
    enable(target, method, resample=resample, storage=storage, offload=offload, modulate_ahead=modulate_ahead)
    try:
        yield target
    finally:
        if before is not None:
            options: dict[str, Any] = {"storage": before.storage, "offload": before.offload}
            enable(before.target, before.asked, **options, modulate_ahead=before.modulate_ahead)
            required(before.target).compile(before.compiled, before)
        else:
            disable(target)


def report(target: Any) -> Report:
    """What the newest run computed, saved and held; before any run, what is enabled. Raises NotEnabledError."""
    session = required(target)
    return Report.of(session.engine, session.method)


class ManualRun:
    """A run of a hand-written loop; call `step()` after each of its steps."""

    def __init__(self, engine: Engine, steps: int) -> None:
        self._engine, self._steps, self._done = engine, steps, 0
        self._run = engine.run

    def step(self) -> None:
        """Ends a step. Raises RunError after the last one, when the run is over, and in another thread."""
        if self._run is not None and not self._run.here:
            raise RunError("step() was called in another thread than the one that opened this run; stay in that one")
        if self._run is not self._engine.run:
            raise RunError("this run is over; open another with tocache.run(…)")
        if self._done >= self._steps:
            raise RunError(f"step() was called more than the {self._steps} times that timesteps= announced")
        self._done += 1
        self._engine.tick()


@contextmanager
def run(target: Any, *, timesteps: Sequence[Any] | torch.Tensor | int, cfg: str | None) -> Iterator[ManualRun]:
    """Opens a run of an enabled transformer around a hand-written sampling loop.

    `timesteps` are the loop's timesteps, or how many there are. `cfg` says what a batch means: None (rows are
    independent samples), "cond,uncond" or "uncond,cond" (two halves, in this order), "two-pass" (two forwards per
    step, cond first).

    The run is of the thread that opens it; a thread that shares the transformer with another waits for its turn.

    Raises NotEnabledError, OptionError for another `cfg`, RunError where a run is open already.
    """
    if not isinstance(cfg, str | None) or cfg not in CFG:
        raise OptionError(f"cfg={cfg!r} is not allowed; allowed: {', '.join(repr(known) for known in CFG)}")
    session = required(target)
    times: Any = range(int(timesteps)) if isinstance(timesteps, Integral) else timesteps
    listed = times.dim() == 1 if isinstance(times, torch.Tensor) else hasattr(times, "__len__")
    if not listed or isinstance(times, str | bytes) or not len(times):
        raise OptionError(
            f"timesteps={timesteps!r} is not allowed; allowed: the loop's timesteps, one or more in a sequence or a "
            "tensor of one dimension, or how many there are"
        )
    engine = session.engine
    with turn_of(engine.transformer):
        session.claim()
        engine.open(lambda: times, guidance=CFG[cfg], explicit=True)
        try:
            yield ManualRun(engine, len(times))
        finally:
            engine.close()


@dataclass
class Trace:
    """What was chosen while it was recorded.

    choices[step, pass, site name]  (rows, k) int64 on the CPU, best token first
    """

    choices: dict[tuple[int, int, str], torch.Tensor] = field(default_factory=dict)
    record: Record = field(default_factory=Record)

    @property
    def plan(self) -> Plan:
        """The plan of the run that was recorded. Raises RunError where none was."""
        if self.record.plan is None:
            raise RunError("no run was recorded")
        return self.record.plan


@contextmanager
def trace(target: Any) -> Iterator[Trace]:
    """Records every choice of tokens in the with-block; a new run begins a new record. Raises NotEnabledError."""
    session = required(target)
    recorded = Trace()

    def note(step: int, number: int, site: str, index: torch.Tensor) -> None:
        record = required(target).engine.record  # `enable` in the with-block makes another engine
        if recorded.record is not record:
            recorded.choices.clear()
            recorded.record = record
        recorded.choices[step, number, site] = index.detach().cpu()

    def begin(record: Record) -> None:
        if recorded.record is not record:
            recorded.choices.clear()
            recorded.record = record

    session.engine.on_choice.append(note)
    session.engine.on_step.append(begin)
    try:
        yield recorded
    finally:
        session.engine.on_choice.remove(note)
        session.engine.on_step.remove(begin)


@contextmanager
def tap(target: Any, on_output: OutputListener) -> Iterator[None]:
    """Shows what each site gives to the model in the with-block, and lets it be replaced.

    `on_output(step, pass, site name, value)` is called each time a site has given its `value` (rows, tokens, width),
    computed, served from the cache or both. Where it returns a tensor, the model gets that instead; the cache keeps
    `value`. It must not write into `value`, which may be what is cached. Counts for runs that begin in the with-block.
    Raises NotEnabledError.
    """
    engine = required(target).engine
    engine.on_output.append(on_output)
    try:
        yield
    finally:
        engine.on_output.remove(on_output)


@contextmanager
def watch(target: Any, on_step: Callable[[Record], None]) -> Iterator[None]:
    """Calls `on_step(record)` after each step in the with-block. Raises NotEnabledError."""
    engine = required(target).engine
    engine.on_step.append(on_step)
    try:
        yield
    finally:
        engine.on_step.remove(on_step)


def _method_of(method: Method | Plan | str | Path | None, family: str, resample: bool) -> Method | None:
    if method is None or isinstance(method, Method):
        return method
    if isinstance(method, Plan):
        return Planned(method, resample=resample)
    if isinstance(method, Path) or (isinstance(method, str) and method.endswith(".json")):
        return Planned(load_plan(method), resample=resample)
    if isinstance(method, str):
        return preset(method, family)
    raise OptionError(f"method={method!r} is not allowed; allowed: a method, a Plan, a preset's name, a plan file")
