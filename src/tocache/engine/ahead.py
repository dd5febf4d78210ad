"""What no token has a part in, for all steps of a run at once: embeddings of times and conditions, and modulations.

They are a third of DiT's weights and are read in each step for a few rows; where the times of the steps are known, one
product makes the rows of all steps. What a step gets of it is only ever what it would have computed itself, up to
rounding: the table is made of the arguments that the first step has, and a step whose own are not known to be the
same, the time apart, computes as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from tocache.engine.pass_run import PassRun
from tocache.engine.wiring import Conditioned
from tocache.kernels import may_ask

MOST_BYTES = 2**27
"""What the rows of one pass may take: where all steps take more, so many steps at a time are made as fit."""

_NOTHING: Mapping[str, torch.Tensor] = {}


class Ahead:
    """The tables of one run, by pass.

    `schedule` is what the run was announced with; a tensor, or numbers, tell its times.
    """

    def __init__(self, wiring: Conditioned, schedule: Any, tell: Callable[[str], None]) -> None:
        self.wiring, self.tell = wiring, tell
        self.schedule = _as_times(schedule)
        self.tables: dict[int, _Table] = {}

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in self.tables.values())

    def rows(self, now: PassRun, transformer: Any, arguments: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        """By path (rows, width) what the modules of `wiring` give in this pass; nothing where that is not known."""
        why = self._why_not(now.step, arguments)
        table = self.tables.get(now.number)
        if why is None and (table is None or not table.first <= now.step < table.last):
            self.tables.pop(now.number, None)  # before there is another
            table = None
            if self._is_offloaded(transformer, arguments[self.wiring.time].device):
                why = "its weights are offloaded"
            else:
                table = self.tables[now.number] = self._table(now.step, transformer, arguments)
        if why is None and table is not None:
            if table.holds(arguments):
                return table.at(now.step)
            why = "its conditions changed within the run"
        self.tell(f"modulation is computed in the step, not ahead: {why}")
        return _NOTHING

    def _why_not(self, step: int, arguments: Mapping[str, Any]) -> str | None:
        time = arguments.get(self.wiring.time)
        if self.schedule is None:
            return "the times of the run are not known"
        if torch.is_grad_enabled():
            return "gradients are recorded; draw under torch.no_grad()"
        if any(_scaled(value) for name, value in arguments.items() if name.endswith("attention_kwargs")):
            return "an adapter's scale is given to each forward"
        if not isinstance(time, torch.Tensor) or not self._is_time(time, step):
            return "the model's time is not known to be the schedule's"
        return None

    def _is_offloaded(self, transformer: Any, device: torch.device) -> bool:
        modules = map(transformer.get_submodule, self.wiring.paths)
        return any(weight.device != device for module in modules for weight in module.parameters())

    def _is_time(self, time: torch.Tensor, step: int) -> bool:
        """Whether `time` (rows,) is that of `step`; on a GPU nothing is read, as the host would have to wait for it."""
        if time.dim() != 1 or self.schedule is None:
            return False
        if may_ask(time):
            return torch.equal(time, self._times(time)[step].expand_as(time))
        return self.wiring.per == 1 and self.schedule.untouched and is_entry(time, self.schedule.given[step])

    def _times(self, like: torch.Tensor) -> torch.Tensor:
        """(steps,) the times of the run as the model gets them."""
        assert self.schedule is not None
        times = self.schedule.values.to(like.device, like.dtype)
        return times if self.wiring.per == 1 else times / self.wiring.per

    @torch.no_grad()
    def _table(self, step: int, transformer: Any, arguments: Mapping[str, Any]) -> _Table:
        time, wiring = arguments[self.wiring.time], self.wiring
        count, dtype = time.shape[0], transformer.dtype
        numbers = sum(int(getattr(transformer.get_submodule(p), "out_features", 0)) for p in wiring.paths)
        fit = max(1, MOST_BYTES // max(1, count * numbers * dtype.itemsize))
        times = self._times(time)[step : step + fit]
        given = {name: arguments.get(name) for name in wiring.given}
        steps = len(times)
        many = {name: _repeated(value, steps) for name, value in given.items()}
        many[wiring.time] = times.repeat_interleave(count)  # (steps · rows,), the rows of a step together
        rows: dict[str, torch.Tensor] = {}
        for path, projections in wiring.projections.items():
            embedded = wiring.embed(transformer.get_submodule(path), many, dtype)  # (steps · rows, width)
            rows[path] = _by_step(embedded, steps)
            active = F.silu(embedded).to(dtype)
            for projection in projections:
                rows[projection] = _by_step(transformer.get_submodule(projection)(active), steps)
        return _Table(step, step + steps, rows, {name: _Known(value) for name, value in given.items()})


class _Table:
    """The rows of the steps from `first` to before `last`, and the conditions that they were made of."""

    def __init__(self, first: int, last: int, rows: dict[str, torch.Tensor], known: dict[str, _Known]) -> None:
        self.first, self.last = first, last
        self.by_path, self.known = rows, known
        self.nbytes = sum(tensor.nbytes for tensor in rows.values())

    def holds(self, arguments: Mapping[str, Any]) -> bool:
        return all(known.is_still(arguments.get(name)) for name, known in self.known.items())

    def at(self, step: int) -> Mapping[str, torch.Tensor]:
        return {path: tensor[step - self.first] for path, tensor in self.by_path.items()}


class _Known:
    """A condition as it was: the same tensor, not written to since; on a CPU equal numbers will do."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.version = _version(value)
        self.copy = value.clone() if isinstance(value, torch.Tensor) and may_ask(value) else None

    def is_still(self, value: Any) -> bool:
        if value is self.value and (value is None or self.version is not None):
            return _version(value) == self.version
        copy = self.copy
        if copy is None or not isinstance(value, torch.Tensor) or value.device != copy.device:
            return False
        return value.dtype == copy.dtype and torch.equal(value, copy)


class _Times:
    """The times of a run: the tensor that the pipeline's loop goes through, and its numbers when the run began."""

    def __init__(self, given: torch.Tensor) -> None:
        self.given = given
        self.values = given.clone()
        self._version = _version(given)

    @property
    def untouched(self) -> bool:
        return self._version is not None and _version(self.given) == self._version


def is_entry(rows: torch.Tensor, entry: torch.Tensor) -> bool:
    """Whether `rows` (n,) are n times the number that `entry` () is, by where both lie in memory."""
    repeated = rows.stride(0) == 0 or len(rows) == 1
    return (
        repeated
        and rows.dtype == entry.dtype
        and rows.device == entry.device
        and rows.untyped_storage().data_ptr() == entry.untyped_storage().data_ptr()
        and rows.storage_offset() == entry.storage_offset()
    )


def _as_times(schedule: Any) -> _Times | None:
    if isinstance(schedule, torch.Tensor):
        return _Times(schedule)
    numbers = isinstance(schedule, list | tuple) and all(isinstance(time, int | float) for time in schedule)
    return _Times(torch.tensor(schedule)) if numbers else None


def _version(value: Any) -> int | None:
    """How often a tensor was written to; None where nobody counts."""
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else None


def _scaled(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("scale") is not None


def _by_step(rows: torch.Tensor, steps: int) -> torch.Tensor:
    """(steps · rows, width) -> (steps, rows, width)"""
    return rows.view(steps, -1, *rows.shape[1:])


def _repeated(value: Any, steps: int) -> Any:
    """(rows, …) -> (steps · rows, …)"""
    return value.repeat(steps, *(1,) * (value.dim() - 1)) if isinstance(value, torch.Tensor) else value
