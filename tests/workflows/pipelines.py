"""Tiny pipelines, how they are called here, and a count of the tokens that their MLPs really see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

import tocache
from tocache.demo.random_pipelines import random_class_pipeline, random_flux_pipeline, random_text_pipeline
from tocache.plan import ALL, Plan
from tocache.plan.anatomy import MLP

SMALL = {"depth": 2, "hidden": 32, "heads": 2, "sample_size": 8}
SMALL_FLUX = {"double_depth": 2, "single_depth": 1, "hidden": 32, "heads": 2, "sample_size": 8}
STEPS = 10  # fewer than 9 would be warned of
PARTIAL = tocache.ToCa(3, 0.3)


def quiet(pipe: Any) -> Any:
    """`pipe` without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def class_pipe(seed: int = 0, **options: Any) -> Any:
    return quiet(random_class_pipeline(seed, **SMALL | options))


def text_pipe(seed: int = 0, **options: Any) -> Any:
    return quiet(random_text_pipeline(seed, **SMALL | options))


def flux_pipe(seed: int = 0, **options: Any) -> Any:
    return quiet(random_flux_pipeline(seed, **SMALL_FLUX | options))


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds or (0,)]


def draw_class(pipe: Any, steps: int = STEPS, seeds: tuple[int, ...] = (0,), **options: Any) -> torch.Tensor:
    """(pictures, 3, height, width) what a DiT pipeline draws."""
    arguments = {"num_inference_steps": steps, "output_type": "pt", "generator": seeded(*seeds)}
    return torch.as_tensor(pipe([3 + seed for seed in seeds], **arguments | options).images)


def draw_text(pipe: Any, steps: int = STEPS, **options: Any) -> torch.Tensor:
    """The latents of what a PixArt pipeline draws."""
    arguments = {"prompt": "a red circle", "num_inference_steps": steps, "output_type": "latent", "height": 64}
    arguments |= {"width": 64, "use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 16}
    return pipe(**{"generator": seeded()} | arguments | options).images


def draw_flux(pipe: Any, steps: int = STEPS, **options: Any) -> torch.Tensor:
    """The latents of what a FLUX pipeline of whatever kind draws."""
    arguments = {"prompt": "a red circle", "num_inference_steps": steps, "output_type": "latent", "height": 64}
    return pipe(**{"generator": seeded(), "width": 64, "max_sequence_length": 16} | arguments | options).images


@dataclass
class Counted:
    """What the MLPs of a run saw: calls[step][site] lists the tokens per row of each of their calls."""

    trace: tocache.Trace
    calls: list[dict[str, list[int]]] = field(default_factory=lambda: [{}])

    @property
    def plan(self) -> Plan:
        return self.trace.plan

    def planned(self) -> list[dict[str, list[int]]]:
        """The same as the plan has it, for the steps that were made."""
        rows = []
        for step in range(len(self.calls)):
            row: dict[str, list[int]] = {}
            for i, site in enumerate(self.plan.sites):
                for number in range(self.plan.passes) if site.kind == MLP else ():
                    amount = int(self.plan.amounts[step, number, i])
                    tokens = self.plan.anatomies[number].shape.tokens[site.group]
                    if amount == ALL or amount > 0:
                        row.setdefault(site.name, []).append(tokens if amount == ALL else amount)
            rows.append(row)
        return rows


@contextmanager
def counting(pipe: Any, transformer: Any = None) -> Iterator[Counted]:
    """Counts, inside of the MLPs, the tokens that one run computes; read `calls` after the block."""
    transformer = pipe.transformer if transformer is None else transformer
    with tocache.trace(pipe) as trace:
        counted, hooks = Counted(trace), []
        for name, module in transformer.named_modules():
            if name.rpartition(".")[2] in ("ff", "ff_context"):

                def note(_: Any, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                    x = args[0] if args else next(iter(kwargs.values()))
                    counted.calls[-1].setdefault(name, []).append(x.shape[1])

                hooks.append(module.register_forward_hook(note, with_kwargs=True))
        with tocache.watch(pipe, lambda record: counted.calls.append({})):
            yield counted
        for hook in hooks:
            hook.remove()
        counted.calls.pop()  # what would have been the step after the last


def check_workflow(pipe: Any, draw: Callable[[Any], torch.Tensor], *, steps: int = STEPS, passes: int = 1) -> Counted:
    """An all-fresh plan is bit-equal to no cache, and a partial one computes the tokens that it says.

    Leaves the partial method enabled, and returns what it counted.
    """

    def again() -> torch.Tensor:
        torch.manual_seed(0)  # some pipelines let their solver draw noise without the generator of the call
        return draw(pipe)

    plain = again()
    tocache.enable(pipe, tocache.Uncached())
    assert torch.equal(again(), plain)
    report = tocache.report(pipe)
    assert (report.steps, report.passes) == (steps, passes)
    tocache.enable(pipe, PARTIAL)
    with counting(pipe) as counted:
        cached = again()
    assert torch.isfinite(cached).all()
    assert not torch.equal(cached, plain)
    report = tocache.report(pipe)
    assert (report.steps, report.passes, report.overruled) == (steps, passes, 0)
    assert report.plan.steps == steps
    assert counted.calls == counted.planned()
    assert set(report.steps_by_kind) == {"full", "partial"}
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert torch.equal(again(), cached)
    return counted
