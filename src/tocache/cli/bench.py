"""`tocache bench`: methods and peers side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import AspectRatio, Device, Dtype, Duration, Guidance, Model, Prompts, Resolution


def bench(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.", show_default=False)],
    model: Model = "demo:text",
    methods: Annotated[
        str,
        typer.Option(
            help="Ours, with options where wished: toca,fora,toca:fresh_ratio=0.2; all; tuned plans, as files."
        ),
    ] = "all",
    peers: Annotated[
        str, typer.Option(help="cache-dit, first-block …; or all, or none. Fewer steps always take part.")
    ] = "all",
    points: Annotated[str, typer.Option(help="FLOPs ratios at which the methods are compared.")] = "2,3,5",
    prompts: Prompts = "64",
    batch: Annotated[int, typer.Option(help="Pictures of one call.")] = 8,
    steps: Annotated[
        int | None, typer.Option(help="Of the uncached reference; the default is the model's own.")
    ] = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Of the first picture's noise; the others count up.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    resolution: Resolution = None,
    aspect_ratio: AspectRatio = None,
    duration: Duration = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Instead: a trace of a step of each kind, with one of --methods.")
    ] = False,
) -> None:
    """Measure methods and peers against each other and against the model without a cache."""
    from tocache.cli.progress import work_bar
    from tocache.cli.show_bench import show_results
    from tocache.errors import OptionError
    from tocache.evaluation.bench import bench as measure
    from tocache.evaluation.pareto import draw_pareto
    from tocache.evaluation.results import write_results
    from tocache.plan.draw import pyplot_or_error

    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")  # it tells each time that it was switched on and off
    if output.exists() and not output.is_dir():
        raise OptionError(f"output={str(output)!r} is not a folder")
    size = {"resolution": resolution, "aspect_ratio": aspect_ratio, "num_frames": duration}
    options = {"steps": steps, "guidance": guidance, "size": size}
    if profile:
        _profile(output, model, methods, prompts, batch, seed, device, dtype, options)
        return
    pyplot_or_error("bench")
    with shown_warnings(), work_bar() as tell:
        results = measure(
            model,
            methods=methods,
            peers=peers,
            points=_points(points),
            prompts=int(prompts) if prompts.isdecimal() else Path(prompts),
            batch=batch,
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
    written = write_results(results, output)
    if draw_pareto(results, output / "pareto.png"):
        written.append(output / "pareto.png")
    show_results(results)
    for path in written:
        typer.echo(f"saved: {path}")
    if results.interrupted:
        raise KeyboardInterrupt


def _profile(
    output: Path,
    model: str,
    methods: str,
    prompts: str,
    batch: int,
    seed: int,
    device: str | None,
    dtype: str | None,
    options: dict[str, Any],
) -> None:
    from tocache.cli.progress import work_bar
    from tocache.cli.show_profile import show_profile
    from tocache.evaluation.profile import profile_model

    count = batch if prompts.isdecimal() else Path(prompts)
    with shown_warnings(), work_bar() as tell:
        place = {"device": device, "dtype": dtype}
        found = profile_model(
            model, methods, prompts=count, batch=batch, seed=seed, options=options, tell=tell, **place
        )
    written = found.write(output)
    show_profile(found)
    for path in written:
        typer.echo(f"saved: {path}")


def _points(text: str) -> list[float]:
    from tocache.errors import OptionError

    try:
        return sorted({float(part.strip().rstrip("x×")) for part in text.split(",") if part.strip()})
    except ValueError as error:
        raise OptionError(
            f"points={text!r} is not allowed; allowed: numbers with commas between, e.g. 2,3,5"
        ) from error
