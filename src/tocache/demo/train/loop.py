"""The training loop that all demo models share: seeded, resumable, with a moving average of the weights.

Everything random in step n is drawn from generators seeded with n, so a run that was stopped goes on as if it had
not been (on the same hardware; moments and average are kept in half precision between the two).
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers.training_utils import EMAModel
from rich.console import Console
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tocache.demo.train.progress import bar, draw_curve
from tocache.errors import OptionError
from tocache.machine import device_name

_WARM_UP = 100
_DECAY = 0.3
"""Share of the steps, at the end, in which the learning rate falls to zero; before, it is constant, so that a finished
run can be made longer from any checkpoint before the fall."""


@dataclass(frozen=True)
class Settings:
    """What a run is made with.

    steps          optimiser steps in all
    batch          pictures in a step
    rate           learning rate at its height
    seed           decides the world, the noise and the first weights
    ema            greatest decay of the moving average of the weights
    muon           orthogonalise the updates of the blocks' matrices (Jordan et al. 2024); AdamW for all other weights
    autocast       run forwards in bfloat16 where torch thinks it safe
    """

    steps: int
    batch: int
    rate: float
    seed: int = 0
    ema: float = 0.999
    muon: bool = False
    autocast: bool = True


class Task(Protocol):
    """What the loop needs to know of a model in training."""

    model: nn.Module

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and figures worth a curve; everything random comes from `step` and `generator`."""
        ...

    def compile(self) -> None:
        """Compile what is run most, in place."""
        ...

    def sample(self, folder: Path) -> str:
        """Write what shows how good the averaged weights are, and say it in a line; `model` holds them meanwhile."""
        ...

    def export(self, folder: Path) -> None:
        """Write what others load; `model` holds the averaged weights meanwhile."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A task whose steps do not all learn from a batch of one size."""

    def seen(self, steps: int) -> int:
        """Of how many pictures so many steps have learned."""
        ...


class Trainer:
    """Runs a task's steps in `folder`, which keeps its checkpoint, loss curve, samples and export.

    Raises OptionError where `folder` holds a run with other settings.
    """

    def __init__(self, task: Task, settings: Settings, folder: Path, *, device: torch.device, compiled: bool) -> None:
        self.task, self.settings, self.folder, self.device = task, settings, folder, device
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizers = list(_optimizers(task.model, settings))
        self.ema = EMAModel(self.parameters, decay=settings.ema, use_ema_warmup=True, power=0.75)
        self.ema.to(device)
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()
        self._forget_rows()
        if compiled:
            task.compile()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self, *, minutes: float | None = None, every: float = 3.0) -> bool:
        """Train until all steps are made or `minutes` are over; checkpoint every so many minutes.

        The export is written at the end, finished or not. Returns whether all steps are made.
        """
        start = saved = time.monotonic()
        had = self.seconds
        with bar(self.step, self.settings.steps) as show:
            while self.step < self.settings.steps:
                figures = self._one()
                self.seconds = had + time.monotonic() - start
                show(self.step, figures)
                if minutes is not None and time.monotonic() - start > 60 * minutes:
                    break
                if time.monotonic() - saved > 60 * every:
                    self.save()
                    saved = time.monotonic()
        self.save()
        with self.averaged(), torch.inference_mode():
            self.task.export(self.folder / "export")
        return self.step >= self.settings.steps

    def _one(self) -> dict[str, float]:
        scale = rate_at(self.step, self.settings.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = scale * self.settings.rate
        # A generator on a CPU heeds the lower 32 bits of its seed alone: the run's seed is spread over them (Knuth).
        generator = torch.Generator().manual_seed((self.settings.seed * 2_654_435_761 + self.step) % 2**32)
        self.task.model.train()
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.autocast)
        with autocast, _attention(self.device, self.settings):
            loss, figures = self.task.loss(self.step, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.parameters)
        self.step += 1
        figures = {"loss": float(loss.detach()), **figures}
        self._note(figures)
        return figures

    def _note(self, figures: dict[str, float]) -> None:
        path = self.folder / "loss.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *figures])
            writer.writerow([self.step, *(f"{value:.6g}" for value in figures.values())])

    def _forget_rows(self) -> None:
        """Cut from the loss table the steps after the checkpoint: a run that was killed makes them again."""
        path = self.folder / "loss.csv"
        if self.step == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[: 1 + self.step]))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The task's model with the averaged weights, in evaluation mode."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.task.model.eval()
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def save(self) -> None:
        """Checkpoint, loss curve and samples; the checkpoint replaces the last one whole or not at all."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": json.dumps(asdict(self.settings)),
            "model": self.task.model.state_dict(),
            "optimizers": [_halved(optimizer.state_dict()) for optimizer in self.optimizers],
            "ema": _halved(self.ema.state_dict()),
        }
        torch.save(state, self.folder / "checkpoint.new")
        (self.folder / "checkpoint.new").replace(self.checkpoint)
        self._note_run()
        with self.averaged(), torch.inference_mode():
            said = self.task.sample(self.folder)
        draw_curve(self.folder / "loss.csv", self.folder / "loss.png")
        Console(stderr=True).print(f"step {self.step}, {self.seconds / 60:.0f} min: {said}", highlight=False)

    def _note_run(self) -> None:
        """What a model card needs to say of this run."""
        task = self.task
        run = {
            "command": f"python -m tocache.demo.train {shlex.join(sys.argv[1:])}",
            "steps": self.step,
            "pictures seen": task.seen(self.step) if isinstance(task, Counting) else self.step * self.settings.batch,
            "minutes": round(self.seconds / 60, 1),
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
        (self.folder / "run.json").write_text(json.dumps(run, indent=2) + "\n")

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        had = json.loads(state["settings"])
        changed = {k for k, v in asdict(self.settings).items() if had.get(k) != v} - {"steps"}
        if changed:
            named = ", ".join(f"{k}={had.get(k)!r}" for k in sorted(changed))
            raise OptionError(f"{self.folder} holds a run with {named}; go on with these or name another folder")
        self.step, self.seconds = state["step"], state["seconds"]
        self.task.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.ema.load_state_dict(_widened(state["ema"]))


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate in step `step`, from 0: a short rise, a plain, a straight fall to zero."""
    rise = min(1.0, (step + 1) / _WARM_UP)
    return min(rise, (steps - step) / max(1.0, _DECAY * steps))


def _attention(device: torch.device, settings: Settings) -> AbstractContextManager[None]:
    """On CPUs the fused attention's backward is four times as slow in bfloat16 as in float32: two products instead."""
    if device.type == "cpu" and settings.autocast:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def _optimizers(model: nn.Module, settings: Settings) -> Iterator[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = "blocks." in name and "norm" not in name and "table" not in name
            (matrices if settings.muon and parameter.ndim == 2 and inside else others).append(parameter)
    if matrices:
        yield torch.optim.Muon(matrices, lr=settings.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    yield torch.optim.AdamW(others, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() and value.ndim else value
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return value


def _halved(state: Any) -> Any:
    return _mapped(state, lambda tensor: tensor.bfloat16())


def _widened(state: Any) -> Any:
    return _mapped(state, lambda tensor: tensor.float())
