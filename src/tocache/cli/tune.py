"""`tocache tune`: the best plan for a model at a wished speed, or the fastest at a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import Device, Dtype, Guidance, Model, Prompts

_USUAL = 3.0


def tune(
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan file to write.", show_default=False)],
    model: Model = "demo:text",
    speedup: Annotated[
        float | None,
        typer.Option(help="Cost of the run without a cache ÷ with the plan, at least; 3 where nothing else is asked."),
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Time of the denoising loop of one picture, at most, as in 2.0s or 800ms.")
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="The fastest plan that loses at most this: for demos the judge's distance, else of pixels."),
    ] = None,
    by: Annotated[str, typer.Option(help="What costs are: seconds as measured here, or flops.")] = "seconds",
    prompts: Prompts = "24",
    steps: Annotated[int | None, typer.Option(help="The default is the model's own.")] = None,
    guidance: Guidance = None,
    batch: Annotated[int, typer.Option(help="Pictures of one call.")] = 8,
    trials: Annotated[int, typer.Option(help="Settings that the local search may try.")] = 24,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Find the plan that harms the pictures least at a wished speed, or the fastest one at a loss.

    --plan of `generate` runs it. Measurements are kept beside the plan, in a folder: a tuning that was stopped goes on
    where it was.
    """
    from tocache.cli.show_tuned import show_tuned
    from tocache.cli.tune_bar import tune_bar
    from tocache.planning import write_plan
    from tocache.tuning import Goal, parse_seconds
    from tocache.tuning import tune as find

    seconds = None if latency is None else parse_seconds(latency)
    usual = _USUAL if speedup is None and latency is None and max_loss is None else speedup
    goal = Goal(usual, seconds, max_loss, by)
    with shown_warnings(), tune_bar() as tell:
        tuned = find(
            model,
            goal,
            prompts=int(prompts) if prompts.isdecimal() else Path(prompts),
            steps=steps,
            guidance=guidance,
            batch=batch,
            trials=trials,
            device=device,
            dtype=dtype,
            memo=output.with_suffix(".trials"),
            tell=tell,
        )
    write_plan(tuned.plan, output)
    show_tuned(tuned)
    typer.echo(f"saved: {output}")
