"""How well the demo pipelines draw what they are asked for: `python -m tocache.demo.measure demo:text`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import Tensor

from tocache.demo.judge import check, look, read_digits
from tocache.demo.names import load_demo
from tocache.demo.world.scene import Scene, draw_scene
from tocache.machine import about_machine
from tocache.models.architectures import pipeline_class, usual_video

HELD_OUT = 2**40 + 2**20
"""Index from which the captions come that are asked for: no training and no test of the judge sees these scenes."""
_BATCH = 16
_KINDS = ("count", "thing", "size", "place", "relation", "motion")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Draw = Callable[[Sequence[Any], int], Tensor]


def measure_text(draw: Draw, count: int, *, seed: int = 0) -> dict[str, Any]:
    """What the judge finds of `count` held-out captions' claims in pictures of them.

    Args:
        draw: from captions and a seed to pictures (captions, 3, H, W) in [0, 1].

    Returns the share of captions of which every claim holds, that of all claims, and that of each kind of claim.
    """
    scenes, held = [], []
    for first, size in _batches(count):
        asked = [draw_scene(seed, HELD_OUT + i) for i in range(first, first + size)]
        pictures = draw([scene.caption for scene in asked], seed + first)
        held += [check(scene.claims, seen) for scene, seen in zip(asked, look(pictures), strict=True)]
        scenes += asked
    return _shares(scenes, held)


def measure_video(draw: Draw, count: int, *, seed: int = 0) -> dict[str, Any]:
    """What the judge finds of `count` held-out captions' claims in clips of them.

    Looks are read off the first frame, motion off the first and the last.

    Args:
        draw: from captions and a seed to clips (captions, frames, 3, H, W) in [0, 1].

    Returns what `measure_text` does, and before it the share of captions of which everything holds that they say of
    shape, colour and direction.
    """
    scenes, held = [], []
    for first, size in _batches(count):
        asked = [draw_scene(seed, HELD_OUT + i, "clip") for i in range(first, first + size)]
        clips = draw([scene.caption for scene in asked], seed + first)
        ends = zip(asked, look(clips[:, 0]), look(clips[:, -1]), strict=True)
        held += [check(scene.claims, seen, later) for scene, seen, later in ends]
        scenes += asked
    moved = [
        all(holds for claim, holds in zip(scene.claims, row, strict=True) if claim.kind in ("thing", "motion"))
        for scene, row in zip(scenes, held, strict=True)
    ]
    shares = _shares(scenes, held)
    return {"prompts": shares.pop("prompts"), "shape, colour and direction": sum(moved) / count, **shares}


def measure_classes(draw: Draw, count: int, *, seed: int = 0) -> dict[str, Any]:
    """The share of `count` pictures, of all digits in turn, in which the judge reads the digit that was asked for.

    Args:
        draw: from digits and a seed to pictures (digits, 3, H, W) in [0, 1].
    """
    right = 0
    for first, size in _batches(count):
        asked = [i % 10 for i in range(first, first + size)]
        right += sum(a == b for a, b in zip(asked, read_digits(draw(asked, seed + first)), strict=True))
    return {"pictures": count, "right class": right / count}


def drawer(pipe: Any) -> Draw:
    """Pictures, or clips, of a pipeline at its own steps, guidance and size."""
    usual = usual_video(pipe)
    arguments: dict[str, Any] = {"clean_caption": False} if hasattr(pipe, "text_encoder") else {}

    def draw(asked: Sequence[Any], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if usual:
            video: Tensor = pipe(list(asked), generator=generator, output_type="pt", **arguments, **usual).frames
            return video
        images = torch.as_tensor(pipe(list(asked), generator=generator, output_type="pt", **arguments).images)
        # DiTPipeline answers output_type="pt" with an array before diffusers 0.41: channels come last
        return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)

    return draw


@app.command()
def main(
    model: Annotated[str, typer.Argument(help="A demo's name or the folder of such a pipeline.")],
    prompts: Annotated[int, typer.Option(min=1)] = 512,
    seed: int = 0,
    device: str = "cpu",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the figures as JSON, too.")] = None,
) -> None:
    """Draw at the pipeline's default steps and guidance, without a cache, and let the judge read the pictures."""
    pipe = pipeline_class(model).from_pretrained(model) if Path(model).is_dir() else load_demo(model)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    measure = measure_classes
    if hasattr(pipe, "text_encoder"):
        measure = measure_video if usual_video(pipe) else measure_text
    figures = measure(drawer(pipe), prompts, seed=seed)
    print(json.dumps({"model": model, **figures}, indent=2))
    if output is not None:
        about = about_machine(pipe.device, "python -m tocache.demo.measure")
        output.write_text(json.dumps({"model": model, **figures} | about, indent=2) + "\n")


def _batches(count: int) -> Iterator[tuple[int, int]]:
    for first in track(range(0, count, _BATCH), "drawing", console=Console(stderr=True), transient=True):
        yield first, min(_BATCH, count - first)


def _shares(scenes: Sequence[Scene], held: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """Of captions of which all claims hold, of all claims, and of each kind that was claimed at all."""
    kinds: dict[str, list[bool]] = {kind: [] for kind in _KINDS}
    for scene, row in zip(scenes, held, strict=True):
        for claim, holds in zip(scene.claims, row, strict=True):
            kinds[claim.kind].append(holds)
    every = [holds for row in held for holds in row]
    shares = {"all claims of a prompt": sum(map(all, held)) / len(held), "claims": sum(every) / len(every)}
    shares |= {kind: sum(found) / len(found) for kind, found in kinds.items() if found}
    return {"prompts": len(held), **shares}


if __name__ == "__main__":
    app()
