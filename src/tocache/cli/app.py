"""The commands: what they are called with, and the functions that do the work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tocache.cli.analyze import analyze
from tocache.cli.app_server import serve_app
from tocache.cli.bench import bench
from tocache.cli.compare import compare
from tocache.cli.errors import Commands, shown_warnings
from tocache.cli.evaluate import evaluate
from tocache.cli.options import AspectRatio, Device, Dtype, Duration, Guidance, Resolution
from tocache.cli.sample import pack, sample
from tocache.cli.tune import tune

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Token-wise feature caching: diffusion transformers made faster without training.",
)

Method = Annotated[
    str | None,
    typer.Option(
        help="A method and its options, e.g. taylorseer:order=2 (`tocache models` lists them); "
        "the default is the preset balanced."
    ),
]
Interval = Annotated[int | None, typer.Option(help="Steps from one full step to the next, N in the paper.")]
FreshRatio = Annotated[float | None, typer.Option(help="Share of tokens computed in between, 1 − R in the paper.")]
Preset = Annotated[str | None, typer.Option(help="A published operating point; `tocache models` lists them.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="A plan that `tocache plan --json` saved.")]
Resample = Annotated[bool, typer.Option("--resample", help="Let --plan be stretched to another number of steps.")]
Storage = Annotated[str | None, typer.Option(help="Keep features in 8 bits: int8 or fp8; the default is their dtype.")]
Offload = Annotated[
    bool | None, typer.Option("--offload/--no-offload", help="Keep features in the host's memory.", show_default=False)
]
Steps = Annotated[int | None, typer.Option(help="Sampling steps; the default is the preset's, plan's or model's own.")]


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from tocache import __version__

        typer.echo(f"tocache {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    # the libraries below speak of matters that no option here can change; who wants to hear them sets these
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw; for class-conditional models a class, name or number.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture or video to write.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="A demo, a folder in diffusers' format, or a hub id.", show_default="demo:text")
    ] = None,
    method: Method = None,
    interval: Interval = None,
    fresh_ratio: FreshRatio = None,
    preset: Preset = None,
    plan: PlanFile = None,
    resample: Resample = False,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Draw without the cache as well, and write both side by side.")
    ] = False,
    resolution: Resolution = None,
    aspect_ratio: AspectRatio = None,
    duration: Duration = None,
    storage: Storage = None,
    offload: Offload = None,
) -> None:
    """Draw a picture or a video with the cache, and report what it saved."""
    from tocache.cli.progress import step_bar
    from tocache.cli.show import show_generated
    from tocache.generation import generate as draw
    from tocache.planning import method_from

    chosen = method_from(
        method, interval=interval, fresh_ratio=fresh_ratio, preset=preset, plan=plan, resample=resample
    )
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "seed": seed, "device": device, "dtype": dtype}
    options |= {"resolution": resolution, "aspect_ratio": aspect_ratio, "duration": duration}
    options |= {"storage": storage, "offload": offload}
    with shown_warnings(), step_bar() as on_step:
        result = draw(prompt, output=output, model=model, method=chosen, compare=compare, on_step=on_step, **options)
    show_generated(result)


@app.command()
def plan(
    model: Annotated[
        str | None, typer.Option(help="A known name (`tocache models`), a demo, a folder, or a hub id.")
    ] = None,
    method: Method = None,
    interval: Interval = None,
    fresh_ratio: FreshRatio = None,
    preset: Preset = None,
    plan: PlanFile = None,
    resample: Resample = False,
    steps: Steps = None,
    guidance: Guidance = None,
    batch: Annotated[int | None, typer.Option(help="Pictures at once; 1 by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the cached features: bf16 (the default), fp16, fp32.")] = None,
    storage: Storage = None,
    offload: Offload = None,
    json: Annotated[Path | None, typer.Option(help="Save the plan; `generate --plan` runs it.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the plan.")] = None,
    on: Annotated[str | None, typer.Option(help="Predict seconds on h100, h200, a100, rtx4090 or l40s.")] = None,
    attained: Annotated[
        float | None, typer.Option(help="With --on: the share of its peak that matrix products reach; 1 by default.")
    ] = None,
) -> None:
    """Show what a method would compute, step by step, and what that costs. Needs no weights."""
    from tocache.cli.show import show_plan
    from tocache.cli.show_roofline import show_predictions
    from tocache.errors import OptionError
    from tocache.plan import load_plan
    from tocache.plan.draw import draw_png
    from tocache.planning import method_from, plan_model, predictions_on, replan, write_plan

    chosen = method_from(
        method, interval=interval, fresh_ratio=fresh_ratio, preset=preset, plan=plan, resample=resample
    )
    options: dict[str, Any] = {"pictures": batch, "guidance": guidance, "dtype": dtype}
    given = {name: value for name, value in options.items() if value is not None}
    if model is not None:
        made = plan_model(model, chosen, steps=steps, storage=storage, offload=offload, **given)
    elif plan is None:
        raise OptionError("give a model (`tocache models` lists the known names) or a plan file")
    elif given:
        raise OptionError(f"{next(iter(given))} needs a model; the plan file alone says what it was made for")
    else:
        made = replan(load_plan(plan), steps=steps, resample=resample).stored(storage=storage, offload=offload)
    if on is None and attained is not None:
        raise OptionError("attained needs on: the GPU whose peak it is a share of")
    predictions = None if on is None else predictions_on(made, on, attained)
    saved = {"plan": (write_plan, json), "picture": (draw_png, png)}
    for save, path in saved.values():
        if path is not None:
            save(made, path)
    show_plan(made)
    if predictions is not None:
        show_predictions(predictions)
    for what, (_, path) in saved.items():
        if path is not None:
            typer.echo(f"{what} saved: {path}")


app.command()(bench)
app.command()(evaluate)
app.command()(compare)
app.command("app")(serve_app)
app.command()(sample)
app.command()(pack)
app.command()(tune)
app.add_typer(analyze, name="analyze")


@app.command()
def models() -> None:
    """List the supported model families, what each supports, and its presets."""
    from tocache.cli.show import show_models
    from tocache.supported import list_models

    show_models(list_models())


@app.command()
def doctor() -> None:
    """Show versions, devices, and what works here."""
    from tocache.cli.show import show_diagnosis
    from tocache.doctor import diagnose

    show_diagnosis(diagnose())


def main() -> None:
    """The console's entry point."""
    app(prog_name="tocache")
