"""`tocache tune`: the best plan for a model at a wished speed-up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import Device, Dtype, Guidance, Model, Prompts


def tune(
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan file to write.", show_default=False)],
    model: Model = "demo:text",
    speedup: Annotated[float, typer.Option(help="FLOPs of the run without a cache ÷ with the plan, at least.")] = 3.0,
    prompts: Prompts = "24",
    steps: Annotated[int | None, typer.Option(help="The default is the model's own.")] = None,
    guidance: Guidance = None,
    batch: Annotated[int, typer.Option(help="Pictures of one call.")] = 8,
    trials: Annotated[int, typer.Option(help="Settings that the search may try.")] = 24,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Find the plan that harms the pictures least at a wished speed-up; --plan of `generate` runs it.

    Trials are kept beside the plan: a tuning that was stopped goes on where it was.
    """
    from tocache.cli.progress import work_bar
    from tocache.cli.show_tuned import show_tuned
    from tocache.planning import write_plan
    from tocache.tuning import tune as find

    with shown_warnings(), work_bar() as tell:
        tuned = find(
            model,
            speedup,
            prompts=int(prompts) if prompts.isdecimal() else Path(prompts),
            steps=steps,
            guidance=guidance,
            batch=batch,
            trials=trials,
            device=device,
            dtype=dtype,
            memo=output.with_suffix(".trials.json"),
            tell=tell,
        )
    write_plan(tuned.plan, output)
    show_tuned(tuned)
    typer.echo(f"saved: {output}")
