"""The training loop on a model of three numbers: schedule, average, checkpoints, and going on after a stop."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from tocache.demo.train import loop
from tocache.demo.train.classes import new_transformer
from tocache.demo.train.latent_task import Size
from tocache.demo.train.loop import Settings, Trainer, rate_at
from tocache.demo.train.progress import draw_curve
from tocache.errors import OptionError

CPU = torch.device("cpu")
PLAIN = Settings(steps=40, batch=8, rate=0.1, seed=3, autocast=False)


class Line:
    """Finds y = x₀ − 2 x₁ + 3 from noisy points; notes all that the loop does with it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(2, 1))
        self.drawn: list[tuple[int, float]] = []
        self.weights: list[Tensor] = []  # before each step
        self.sampled: list[Tensor] = []
        self.compiled = False
        self.after: Callable[[int], None] = lambda step: None

    @property
    def now(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).clone()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert self.model.training
        self.weights.append(self.now)
        x = torch.randn(8, 2, generator=generator)
        noise = 0.1 * torch.randn(8, generator=generator)
        self.drawn.append((step, float(x[0, 0])))
        error = (self.model(x)[:, 0] - (x[:, 0] - 2 * x[:, 1] + 3) - noise).square().mean()
        self.after(step)
        return error, {"double": 2 * float(error.detach())}

    def compile(self) -> None:
        self.compiled = True

    def sample(self, folder: Path) -> str:
        assert not self.model.training
        self.sampled.append(self.now)
        return "sampled"

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        torch.save(self.now, folder / "line.pt")


def trainer(folder: Path, settings: Settings = PLAIN, task: Any = None, compiled: bool = False) -> Trainer:
    return Trainer(task or Line(), settings, folder, device=CPU, compiled=compiled)


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "loss.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until a task moves it on."""
    fake = SimpleNamespace(now=0.0)
    fake.monotonic = lambda: fake.now
    monkeypatch.setattr(loop, "time", fake)
    return fake


def minute_a_step(task: Line, clock: SimpleNamespace) -> Line:
    def on(step: int) -> None:
        clock.now += 60

    task.after = on
    return task


def test_a_run_learns_and_writes_what_it_should(tmp_path: Path) -> None:
    task = Line()
    run = trainer(tmp_path, replace(PLAIN, steps=300), task)
    assert run.run()
    assert (task.now - torch.tensor([1.0, -2.0, 3.0])).abs().max() < 0.1
    assert {"checkpoint.pt", "loss.csv", "loss.png", "run.json", "export/line.pt"} == files_of(tmp_path).keys()
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 301))
    assert rows[0].keys() == {"step", "loss", "double"}
    assert all(row["double"] == pytest.approx(2 * row["loss"], rel=1e-4) for row in rows)
    assert sum(row["loss"] for row in rows[-20:]) < 0.02 * sum(row["loss"] for row in rows[:20])
    with Image.open(tmp_path / "loss.png") as curve:
        assert curve.size == (800, 440)
    said = json.loads((tmp_path / "run.json").read_text())
    assert said["steps"] == 300
    assert said["pictures seen"] == 2400
    assert said["torch"] == torch.__version__
    assert "threads of" in said["device"]


def test_two_runs_are_equal_and_another_seed_is_not(tmp_path: Path) -> None:
    tasks = [Line(), Line(), Line()]
    for i, (task, seed) in enumerate(zip(tasks, (3, 3, 4), strict=True)):
        trainer(tmp_path / str(i), replace(PLAIN, seed=seed), task).run()
        torch.rand(5)  # torch's own dice have no say
    assert tasks[0].drawn == tasks[1].drawn
    assert torch.equal(tasks[0].now, tasks[1].now)
    assert {value for _, value in tasks[0].drawn}.isdisjoint({value for _, value in tasks[2].drawn})


@pytest.mark.parametrize("muon", [False, True])
def test_a_stopped_run_goes_on(tmp_path: Path, clock: SimpleNamespace, muon: bool) -> None:
    def make() -> Line:
        task = Line()
        task.model = nn.ModuleDict({"blocks": task.model}) if muon else task.model
        if muon:
            task.model.forward = task.model["blocks"].forward
        return minute_a_step(task, clock)

    settings = replace(PLAIN, muon=muon)
    whole, first, second = make(), make(), make()
    trainer(tmp_path / "whole", settings, whole).run(every=100)
    stopped = trainer(tmp_path / "parts", settings, first)
    assert not stopped.run(minutes=14.5, every=100)
    assert stopped.step == 15
    assert len(first.sampled) == 1
    weights, average = (tmp_path / "parts" / "export" / "line.pt"), first.sampled[-1]
    assert torch.equal(torch.load(weights), average)  # what there is can be tried
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["minutes"] == 15
    resumed = trainer(tmp_path / "parts", settings, second)
    assert (resumed.step, resumed.seconds) == (15, 900)
    assert torch.equal(second.now, first.now)
    assert resumed.run(minutes=1000, every=100)
    assert first.drawn + second.drawn == whole.drawn
    # Moments are kept in half precision: nearly the same, and not what forgotten moments would give.
    assert (second.now - whole.now).abs().max() < 2e-3
    assert [row["step"] for row in rows_of(tmp_path / "parts")] == list(range(1, 41))
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["minutes"] == 40
    averages = [torch.load(tmp_path / part / "export" / "line.pt") for part in ("whole", "parts")]
    torch.testing.assert_close(*averages, atol=5e-3, rtol=0)


def test_a_killed_run_makes_the_lost_steps_again(tmp_path: Path, clock: SimpleNamespace) -> None:
    """Between two checkpoints, the table is ahead of what is kept."""

    def kill(step: int) -> None:
        clock.now += 60
        if step == 9:
            raise KeyboardInterrupt

    task, again = Line(), Line()
    task.after = kill
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, task=task).run(every=3.5)  # the last checkpoint is of 8 steps
    assert len(rows_of(tmp_path)) == 9
    resumed = trainer(tmp_path, task=again)
    assert resumed.step == 8
    assert resumed.run()
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, 41))
    assert again.drawn[0] == task.drawn[8]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_afresh(tmp_path: Path) -> None:
    def kill(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    task = Line()
    task.after = kill
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, task=task).run()
    trainer(tmp_path).run()
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, 41))


def test_checkpoints_come_every_so_many_minutes(tmp_path: Path, clock: SimpleNamespace) -> None:
    task = minute_a_step(Line(), clock)
    trainer(tmp_path, task=task).run(every=9.5)
    assert len(task.sampled) == 4 + 1  # after steps 10, 20, 30 and 40, and at the end


def test_no_minutes_are_one_step(tmp_path: Path, clock: SimpleNamespace) -> None:
    run = trainer(tmp_path, task=minute_a_step(Line(), clock))
    assert not run.run(minutes=0)
    assert run.step == 1


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    task = Line()
    again = trainer(tmp_path, task=task)
    assert again.run()
    assert task.drawn == []
    longer = trainer(tmp_path, replace(PLAIN, steps=50), task := Line())
    assert longer.run()
    assert [step for step, _ in task.drawn] == list(range(40, 50))


@pytest.mark.parametrize(
    "change", [{"batch": 16}, {"rate": 0.2}, {"seed": 4}, {"ema": 0.9}, {"muon": True}, {"autocast": True}]
)
def test_other_settings_are_refused_and_nothing_is_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    trainer(tmp_path).run(minutes=0)
    before = files_of(tmp_path)
    (name,) = change
    with pytest.raises(OptionError, match=f"holds a run with {name}={getattr(PLAIN, name)!r}; go on with these"):
        trainer(tmp_path, replace(PLAIN, **change))
    assert files_of(tmp_path) == before
    assert trainer(tmp_path).step == 1


def test_a_checkpoint_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path)
    run.run(minutes=0)
    before = run.checkpoint.read_bytes()

    def fail(state: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        run.run(minutes=0)
    monkeypatch.undo()
    assert run.checkpoint.read_bytes() == before
    assert trainer(tmp_path).step == 1


def test_the_average_follows_its_formula(tmp_path: Path) -> None:
    """After n steps, 1 − n^−¾ of what it was is kept, at most `ema`; the first step is taken as it is."""
    task = Line()
    run = trainer(tmp_path, replace(PLAIN, ema=0.9), task)
    run.run()
    weights = [*task.weights[1:], task.now]  # after each step
    average = weights[0]
    for n, after in enumerate(weights[1:], start=1):
        decay = min(0.9, 1 - (1 + n) ** -0.75)
        average = decay * average + (1 - decay) * after
    torch.testing.assert_close(task.sampled[-1], average)
    torch.testing.assert_close(torch.load(tmp_path / "export" / "line.pt"), average)
    assert not torch.allclose(average, task.now, atol=1e-4)


def test_averaged_weights_are_put_back(tmp_path: Path) -> None:
    task = Line()
    run = trainer(tmp_path, task=task)
    run.run()
    last = task.now
    with pytest.raises(RuntimeError, match="in the middle"), run.averaged():
        assert not torch.equal(task.now, last)
        raise RuntimeError("in the middle")
    assert torch.equal(task.now, last)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1 / 100), (49, 0.5), (99, 1), (100, 1), (700, 1), (850, 0.5), (999, 1 / 300), (1000, 0)]
)
def test_learning_rate_rises_stays_and_falls(step: int, share: float) -> None:
    assert rate_at(step, 1000) == pytest.approx(share)


@given(steps=st.integers(1, 100_000), at=st.floats(0, 1))
@hypothesis(deadline=None)
def test_learning_rate_is_never_0_nor_more_than_its_height(steps: int, at: float) -> None:
    step = min(steps - 1, int(at * steps))
    assert 0 < rate_at(step, steps) <= 1
    if step <= 0.7 * steps:
        assert rate_at(step, steps) == pytest.approx(rate_at(step, 2 * steps))  # a run can be made longer
    else:
        assert rate_at(step + 1, steps) < rate_at(step, steps) or step < 100


def test_the_optimizers_get_the_rate_of_the_step(tmp_path: Path) -> None:
    task = Line()
    run = trainer(tmp_path, task=task)
    seen: list[float] = []
    task.after = lambda step: seen.extend(group["lr"] for o in run.optimizers for group in o.param_groups)
    run.run()
    assert seen == pytest.approx([0.1 * rate_at(step, 40) for step in range(40)])


def test_muon_gets_the_matrices_of_the_blocks(tmp_path: Path) -> None:
    task = Line()
    task.model = new_transformer(Size(16, 2, 2))
    names = {parameter: name for name, parameter in task.model.named_parameters()}
    muon, adamw = trainer(tmp_path / "with", replace(PLAIN, muon=True), task).optimizers
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    mine, others = ([names[p] for g in o.param_groups for p in g["params"]] for o in (muon, adamw))
    layers = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")
    assert set(mine) == {f"transformer_blocks.{b}.{layer}.weight" for b in range(2) for layer in layers}
    assert sorted(mine + others) == sorted(names.values())
    (alone,) = trainer(tmp_path / "without", PLAIN, task).optimizers
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)


def test_frozen_weights_stay(tmp_path: Path) -> None:
    task = Line()
    bias = task.model.get_parameter("0.bias").requires_grad_(False)
    before = bias.clone()
    trainer(tmp_path, task=task).run()
    assert torch.equal(bias, before)


def test_a_great_gradient_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[Tensor] = []
    task = Line()
    task.after = lambda step: None
    run = trainer(tmp_path, task=task)
    original = run.optimizers[0].step

    def step() -> None:
        norms.append(torch.stack([p.grad.norm() for p in run.parameters if p.grad is not None]).norm())
        original()

    monkeypatch.setattr(run.optimizers[0], "step", step)
    run.run()
    assert max(norms) <= 1 + 1e-4
    assert norms[0] > 0.99  # the first error is about 3: it had to be


@pytest.mark.parametrize("compiled", [False, True])
def test_models_are_compiled_if_asked(tmp_path: Path, compiled: bool) -> None:
    task = Line()
    trainer(tmp_path, task=task, compiled=compiled)
    assert task.compiled == compiled


def test_autocast_is_bfloat16_where_asked(tmp_path: Path) -> None:
    for autocast in (False, True):
        task = Line()
        dtypes: set[torch.dtype] = set()
        task.model.register_forward_hook(lambda _, __, out, dtypes=dtypes: dtypes.add(out.dtype))
        trainer(tmp_path / str(autocast), replace(PLAIN, steps=2, autocast=autocast), task).run()
        assert dtypes == {torch.bfloat16 if autocast else torch.float32}
        assert task.now.dtype == torch.float32


def test_curves_may_be_short_or_negative(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text("step,loss\n1,-0.5\n")
    draw_curve(tmp_path / "loss.csv", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as curve:
        assert curve.size == (800, 220)
