"""`tocache compare`: methods side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import AspectRatio, Device, Dtype, Duration, Guidance, Model, Prompts, Resolution


def compare(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.", show_default=False)],
    model: Model = "demo:text",
    methods: Annotated[
        str,
        typer.Option(help="With options where wished, presets, plan files: toca,fora:interval=4,paper-r70,plan.json"),
    ] = "toca,fora,taylorseer",
    prompts: Prompts = "4",
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt, instead of --prompts; may be given several times.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps; the default is that of presets and plans, or the model's own.")
    ] = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Of the first picture's noise; the others count up.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    resolution: Resolution = None,
    aspect_ratio: AspectRatio = None,
    duration: Duration = None,
) -> None:
    """Draw the same pictures without a cache and with each method, and write a page that shows them side by side.

    The page, index.html, is one file that needs no server and no network.
    """
    from tocache.cli.progress import work_bar
    from tocache.cli.show_compared import show_compared
    from tocache.errors import OptionError
    from tocache.reporting import compare as draw
    from tocache.reporting import write_report

    if output.exists() and not output.is_dir():
        raise OptionError(f"output={str(output)!r} is not a folder")
    with shown_warnings(), work_bar() as tell:
        comparison = draw(
            model,
            methods=methods,
            prompts=tuple(prompt) if prompt else int(prompts) if prompts.isdecimal() else Path(prompts),
            steps=steps,
            guidance=guidance,
            seed=seed,
            device=device,
            dtype=dtype,
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            duration=duration,
            tell=tell,
        )
    page, *more = write_report(comparison, output)
    show_compared(comparison)
    typer.echo(f"page saved: {page}")
    typer.echo(f"beside it: figures.json, {len(more) - 1} plans")
    if comparison.interrupted:
        raise KeyboardInterrupt
