"""What is drawn in a benchmark: prompts with seeds, and for the demos what their pictures should show."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tocache.demo.judge import SIDE, pooled_features
from tocache.demo.world.digits import draw_digit, render_digits
from tocache.demo.world.render import render
from tocache.demo.world.scene import Claim, Scene, draw_scene
from tocache.engine.intercept import plain_class
from tocache.errors import OptionError
from tocache.generation.batches import arguments_for
from tocache.planning import is_demo

HELD_OUT = 2**40 + 2**21
"""Index from which the captions come: no training sees these scenes."""
_ASIDE = 2**20  # from there on, scenes that are rendered rather than asked for
_CHUNK = 32


@dataclass(frozen=True)
class Task:
    """One picture or video to draw."""

    prompt: str | int
    seed: int
    claims: tuple[Claim, ...] = ()  # what the judge looks for
    digit: int | None = None  # what the judge reads


def tasks_for(pipe: Any, model: str | Path, prompts: int | Path, seed: int) -> list[Task]:
    """What to draw with `pipe`: the lines of a file, or so many captions or classes of the demos' world.

    Raises OptionError where the file holds no prompt, or where a model that is no demo is given no file.
    """
    if isinstance(prompts, Path):
        return [Task(prompt, seed + i) for i, prompt in enumerate(_lines(prompts))]
    if not is_demo(model):
        raise OptionError(
            f"prompts={prompts!r} is for demos; for {str(model)!r} give a file with a prompt in each line"
        )
    if _takes_classes(pipe):
        digits = str(model) == "demo:class"
        classes = 10 if digits else int(pipe.transformer.config.num_embeds_ada_norm)
        numbers = [i % classes for i in range(prompts)]
        return [Task(n, seed + i, digit=n if digits else None) for i, n in enumerate(numbers)]
    scenes = scenes_for(pipe, prompts, seed)
    return [Task(scene.caption, seed + i, claims=scene.claims) for i, scene in enumerate(scenes)]


def scenes_for(pipe: Any, count: int, seed: int, *, first: int = 0) -> list[Scene]:
    """Scenes of the demos' world that no training saw: clips for pipelines of videos, pictures for the others."""
    kind: Any = "clip" if "num_frames" in _parameters(pipe) else "picture"
    return [draw_scene(seed, HELD_OUT + first + i, kind) for i in range(count)]


def batch_arguments(pipe: Any, tasks: Sequence[Task], options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of one call that draws all of `tasks` as tensors, each from its own seed.

    options   steps, guidance and size, as in `call_arguments`, whose errors it raises
    """
    return arguments_for(pipe, [task.prompt for task in tasks], [task.seed for task in tasks], options)


def real_features(pipe: Any, model: str | Path, count: int, seed: int, side: int) -> Tensor | None:
    """The judge's features (count, 192) of the world's own pictures, `side` pixels wide, of scenes of no task.

    Of clips it is their middle frame. None where the model is not of this world, or its pictures do not fit the judge.
    """
    if side % SIDE:
        return None
    if _takes_classes(pipe):
        if str(model) != "demo:class":
            return None
        digits = [draw_digit(seed, HELD_OUT + _ASIDE + i, held_out=True) for i in range(count)]
        chunks = (render_digits(digits[i : i + _CHUNK], side) for i in range(0, count, _CHUNK))
    else:
        scenes = scenes_for(pipe, count, seed, first=_ASIDE)
        time = 0.5 if "num_frames" in _parameters(pipe) else 0.0
        chunks = (render(scenes[i : i + _CHUNK], side, time=time) for i in range(0, count, _CHUNK))
    return torch.cat([pooled_features(chunk) for chunk in chunks])


def _takes_classes(pipe: Any) -> bool:
    return "class_labels" in _parameters(pipe)


def _parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(plain_class(pipe).__call__).parameters


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{file}: cannot be read: {error}") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise OptionError(f"{file}: holds no prompt; write one in each line")
    return prompts
