"""Where the time of one step of each kind goes: a trace by torch's profiler, and shares of it by part.

Everything is marked from outside and for the time of the profile alone: modules by hooks, what the engine does between
them by ranges around its functions. A run that is not profiled does not know of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity

from tocache.api import enabled, report
from tocache.errors import OptionError, RunError
from tocache.evaluation.bench import Tell
from tocache.evaluation.clock import told
from tocache.evaluation.contenders import TUNED, parse_methods
from tocache.evaluation.profile_ranges import OUTSIDE, PARTS, ranges
from tocache.evaluation.prompts import batch_arguments, tasks_for
from tocache.generation import load_pipeline
from tocache.methods import METHODS, Method, Planned
from tocache.methods.spec import make_method
from tocache.plan import Plan
from tocache.planning import check_count, check_seed

UNCACHED = "uncached"
_STEP = "tocache step: "


@dataclass(frozen=True)
class Profile:
    """Of one method on one pipeline.

    steps   the number of the step of each kind that was looked at, UNCACHED among them
    parts   by kind of step and part (PARTS), seconds: of the device's kernels on a GPU, else of the processor
    trace   what the profiler writes, all steps together
    """

    method: str
    device: str
    steps: Mapping[str, int]
    parts: Mapping[str, Mapping[str, float]]
    trace: Mapping[str, Any] = field(repr=False)

    def shares(self, kind: str) -> dict[str, float]:
        """By part, of all of the step; together 1."""
        whole = sum(self.parts[kind].values()) or 1.0
        return {part: seconds / whole for part, seconds in self.parts[kind].items()}

    def write(self, folder: Path) -> list[Path]:
        """The trace, which Perfetto and chrome://tracing open, and the table as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        trace, table = folder / "trace.json", folder / "profile.json"
        trace.write_text(json.dumps(self.trace) + "\n", encoding="utf-8")
        figures = {"method": self.method, "device": self.device, "steps": dict(self.steps), "seconds": self.parts}
        figures["shares"] = {kind: self.shares(kind) for kind in self.parts}
        table.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return [trace, table]


def profile(
    pipe: Any,
    method: Method | str | None,
    arguments: Callable[[], Mapping[str, Any]],
    *,
    tell: Tell = lambda phase, done, total: None,
) -> Profile:
    """Profiles one uncached step and one of each kind that the method's plan has; `arguments()` are those of a call.

    The steps lie in the middle of those of their kind: of partial ones, the one with the median of fresh tokens.
    Nothing is compiled. Raises RunError where a run has no plan, as one without a scheduler's steps.
    """
    sessions: dict[str, _Session] = {}
    with enabled(pipe, method):
        tell("warming up", 0, 3)
        pipe(**arguments())
        found = report(pipe)
        if found.plan is None:
            raise RunError("this pipeline's run made no plan, so that no step of it can be told from another")
        steps = chosen_steps(found.plan)
        tell("profiling with the cache", 1, 3)
        with ranges(pipe, found.plan):
            sessions |= _profiled(pipe, arguments(), steps)
    middle = found.plan.steps // 2
    tell("profiling without", 2, 3)
    with ranges(pipe, found.plan):
        sessions = _profiled(pipe, arguments(), {UNCACHED: middle}) | sessions
    tell("done", 3, 3)
    steps = {UNCACHED: middle} | steps
    return Profile(
        method=found.method,
        device=str(pipe.device),
        steps=steps,
        parts={kind: sessions[kind].parts for kind in steps},
        trace=_merged([session.trace for session in sessions.values()]),
    )


def profile_model(
    model: str | Path,
    methods: str = "all",
    *,
    prompts: int | Path = 1,
    batch: int = 1,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    options: Mapping[str, Any] | None = None,
    tell: Tell = lambda phase, done, total: None,
) -> Profile:
    """`profile` of a demo, a folder in diffusers' format or a hub id.

    methods  one method, with options where wished, or a plan file; `all`: the default of the model
    options  steps, guidance, and size of videos, of the pipeline's call, as in `bench`

    Raises OptionError for several methods, and as `bench` does.
    """
    check_count("batch", batch)
    method = None if methods == "all" else _one_method(methods)
    pipe = load_pipeline(model, device=device, dtype=dtype)
    tasks = tasks_for(pipe, model, prompts, check_seed(seed))[:batch]
    given = {"steps": None, "guidance": None, "size": {}} | dict(options or {})
    return profile(pipe, method, lambda: batch_arguments(pipe, tasks, given), tell=tell)


def _one_method(text: str) -> Method:
    found = parse_methods(text)
    if len(found) != 1 or len(found[0][2].get("plans", {})) > 1:
        raise OptionError(f"methods={text!r} is not allowed with profile; allowed: one method, or one plan file")
    _, name, options = found[0]
    if name == TUNED:
        (plan,) = options["plans"].values()
        return Planned(plan)
    return make_method(name, options, METHODS)


def chosen_steps(plan: Plan) -> dict[str, int]:
    """The step of each kind that is looked at, by kind.

    The first step also opens the run, and a full step before another one keeps nothing: these are the last choice.
    """
    kinds = [plan.kind_of_step(step) for step in range(plan.steps)]
    chosen = {}
    for kind in ("full", "partial", "reuse"):
        steps = [step for step, found in enumerate(kinds) if found == kind]
        steps = [step for step in steps if step] or steps
        if kind == "full":
            steps = [step for step in steps if kinds[step + 1 : step + 2] not in ([], ["full"])] or steps
        fresh = [int(np.maximum(plan.amounts[step], 0).sum()) for step in steps]
        if steps:  # sorted by fresh tokens; among equals, by step
            order = sorted(range(len(steps)), key=lambda i: (fresh[i], steps[i]))
            chosen[kind] = steps[order[len(order) // 2]]
    return chosen


@dataclass(frozen=True)
class _Session:
    """What was recorded of one step."""

    parts: Mapping[str, float]
    trace: Mapping[str, Any]


class _Recorder:
    """Follows the steps of a run, and profiles some."""

    def __init__(self, device: torch.device, wanted: Mapping[str, int]) -> None:
        self.on_gpu = device.type == "cuda"
        self.device = device
        self.kinds = {step: kind for kind, step in wanted.items()}
        self.sessions: dict[str, _Session] = {}
        self.step = -1
        self._stack: ExitStack | None = None
        self._profiler: Any = None

    def begin(self) -> None:
        self.step = 0
        self._open()

    def end(self) -> None:
        self.close()
        self.step += 1
        self._open()

    def close(self) -> None:
        """Ends the profile of the step, if it has one."""
        if self._stack is None:
            return
        kind, stack, self._stack = self.kinds[self.step], self._stack, None
        stack.close()
        self.sessions[kind] = _Session(_parts_of(self._profiler, on_gpu=self.on_gpu), _trace_of(self._profiler))

    def _open(self) -> None:
        if self.step in self.kinds and self._stack is None:
            self._stack = ExitStack()
            self._profiler = self._stack.enter_context(_profiler(on_gpu=self.on_gpu))
            if self.on_gpu:  # what was launched before belongs to another step
                torch.cuda.synchronize(self.device)
                self._stack.callback(torch.cuda.synchronize, self.device)
            self._stack.enter_context(torch.profiler.record_function(f"{_STEP}{self.kinds[self.step]}"))


def _profiled(pipe: Any, arguments: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, _Session]:
    with _profiler(on_gpu=pipe.device.type == "cuda"):
        pass  # the first profile of a process sets the profiler up
    recorder = _Recorder(pipe.device, wanted)
    with told(pipe.scheduler, recorder.begin, recorder.end):
        try:
            pipe(**arguments)
        finally:
            recorder.close()
    missing = set(wanted) - set(recorder.sessions)
    if missing:
        raise RunError(f"the run ended before its {sorted(missing)[0]} step {wanted[sorted(missing)[0]]}")
    return recorder.sessions


def _profiler(*, on_gpu: bool) -> Any:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    return torch.profiler.profile(activities=activities)


def _parts_of(profiler: Any, *, on_gpu: bool) -> dict[str, float]:
    """Seconds by part: each operation's own time goes to the innermost range around it."""
    spent = dict.fromkeys(PARTS, 0.0)
    for event in profiler.events():
        # a device's own events are counted with the operation that launched them
        part = _part_around(event) if event.device_type.name == "CPU" else None
        if part is not None:
            spent[part] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    return spent


def _part_around(event: Any) -> str | None:
    """The part that an event belongs to; None outside of the step."""
    part = None
    while event is not None:
        if event.name in PARTS and part is None:
            part = event.name
        if event.name.startswith(_STEP):
            return part or OUTSIDE
        event = event.cpu_parent
    return None


def _trace_of(profiler: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        trace: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    # the name of this machine and of a file that is gone are nobody's business
    return {name: value for name, value in trace.items() if name not in ("host_name", "traceName")}


def _merged(traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All traces on one time line; arrows from the host to the device keep to their own."""
    merged: dict[str, Any] = {**traces[0], "traceEvents": []}
    base = int(merged.get("baseTimeNanoseconds", 0))
    for number, trace in enumerate(traces):
        shift = (int(trace.get("baseTimeNanoseconds", 0)) - base) / 1e3  # times are microseconds
        for event in trace["traceEvents"]:
            moved = dict(event)
            if "ts" in moved:
                moved["ts"] = moved["ts"] + shift
            if moved.get("ph") in ("s", "f") and "id" in moved:
                moved["id"] = f"{number}.{moved['id']}"
            merged["traceEvents"].append(moved)
    return merged
