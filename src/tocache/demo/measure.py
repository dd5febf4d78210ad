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
from tocache.demo.world.scene import Claim, draw_scene

HELD_OUT = 2**40 + 2**20
"""Index from which the captions come that are asked for: no training and no test of the judge sees these scenes."""
_BATCH = 16

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Draw = Callable[[Sequence[Any], int], Tensor]


def measure_text(draw: Draw, count: int, *, seed: int = 0) -> dict[str, Any]:
    """What the judge finds of `count` held-out captions' claims in pictures of them.

    Args:
        draw: from captions and a seed to pictures (captions, 3, H, W) in [0, 1].

    Returns the share of captions of which every claim holds, that of all claims, and that of each kind of claim.
    """
    whole, by_kind = 0, {kind: [0, 0] for kind in ("count", "thing", "size", "place", "relation")}
    for first, size in _batches(count):
        scenes = [draw_scene(seed, HELD_OUT + i) for i in range(first, first + size)]
        pictures = draw([scene.caption for scene in scenes], seed + first)
        for scene, seen in zip(scenes, look(pictures), strict=True):
            held = check(scene.claims, seen)
            whole += all(held)
            _count(scene.claims, held, by_kind)
    found, asked = (sum(column) for column in zip(*by_kind.values(), strict=True))
    kinds = {kind: found / asked for kind, (found, asked) in by_kind.items() if asked}
    return {"prompts": count, "all claims of a prompt": whole / count, "claims": found / asked, **kinds}


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
    """Pictures of a text or class pipeline, at its own steps, guidance and size."""

    def draw(asked: Sequence[Any], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        arguments = {"clean_caption": False} if hasattr(pipe, "text_encoder") else {}
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
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(model) if Path(model).is_dir() else load_demo(model)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    measure = measure_text if hasattr(pipe, "text_encoder") else measure_classes
    figures = measure(drawer(pipe), prompts, seed=seed)
    text = json.dumps({"model": model, **figures}, indent=2)
    print(text)
    if output is not None:
        output.write_text(text + "\n")


def _batches(count: int) -> Iterator[tuple[int, int]]:
    for first in track(range(0, count, _BATCH), "drawing", console=Console(stderr=True), transient=True):
        yield first, min(_BATCH, count - first)


def _count(claims: Sequence[Claim], held: Sequence[bool], by_kind: dict[str, list[int]]) -> None:
    for claim, holds in zip(claims, held, strict=True):
        by_kind[claim.kind][0] += holds
        by_kind[claim.kind][1] += 1


if __name__ == "__main__":
    app()
