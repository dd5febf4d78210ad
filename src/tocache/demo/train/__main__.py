"""The command line of the training."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
import typer

from tocache.demo.train.loop import Settings, Trainer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoint, loss curve, samples and, at the end, export/.")]
Steps = Annotated[int, typer.Option(min=1)]
Batch = Annotated[int, typer.Option(min=8)]
Rate = Annotated[float, typer.Option(help="Learning rate at its height.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after this time, with a checkpoint to go on from.")]
Vae = Annotated[Path, typer.Option(help="Export of the autoencoder.")]
Pictures = Annotated[int, typer.Option(min=1, help="Different pictures, or clips, to learn from.")]
Side = Annotated[
    int, typer.Option(help="Of the pictures in pixels: begin with half of the last one, go on with --start.")
]
Start = Annotated[Path | None, typer.Option(help="Pipeline to begin with, such as the export of another run.")]
Halves = Annotated[
    int,
    typer.Option(
        min=0,
        help="Different pictures of half the side: with any, three of four steps learn from twice as many of these.",
    ),
]
Shift = Annotated[
    float, typer.Option(help="Odds of noise at the times to learn at, over those at the times that the sampler visits.")
]
Words = Annotated[Path | None, typer.Option(help="Export of the text encoder, for text and video.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Bf16 = Annotated[
    bool | None,
    typer.Option(help="Forwards in bfloat16; by default on a GPU. CPUs that multiply in it gain a fifth to a quarter."),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the model first.")]


@app.callback()
def main() -> None:
    """Train the demo models from nothing but the package."""


@app.command()
def vae(
    out: Out,
    steps: Steps = 3000,
    batch: Annotated[int, typer.Option(min=16, help="Crops in a step.")] = 48,  # of fewer, none is a digit's
    rate: Rate = 2e-3,
    seed: int = 0,
    minutes: Minutes = None,
    device: Device = "cpu",
    compiled: Compiled = False,
) -> None:
    """The autoencoder, which the others need."""
    from tocache.demo.train.vae import VaeTask

    place = torch.device(device)
    task = VaeTask(seed, batch, place)
    Trainer(task, Settings(steps, batch, rate, seed), out, device=place, compiled=compiled).run(minutes=minutes)


@app.command()
def judge(
    out: Out,
    steps: Steps = 1500,
    batch: Batch = 64,
    rate: Rate = 2e-3,
    seed: int = 0,
    minutes: Minutes = None,
    device: Device = "cpu",
    compiled: Compiled = False,
) -> None:
    """The network that reads shape, colour, size and place from pictures."""
    from tocache.demo.train.judge import JudgeTask

    place = torch.device(device)
    task = JudgeTask(seed, batch, place)
    Trainer(task, Settings(steps, batch, rate, seed), out, device=place, compiled=compiled).run(minutes=minutes)


@app.command()
def words(
    out: Out,
    steps: Steps = 4000,
    batch: Annotated[int, typer.Option(min=8, help="Captions in a step.")] = 128,
    rate: Rate = 2e-3,
    seed: int = 0,
    minutes: Minutes = None,
    device: Device = "cpu",
    compiled: Compiled = False,
) -> None:
    """The text encoder, which text and video need."""
    from tocache.demo.train.words import WordsTask

    place = torch.device(device)
    task = WordsTask(seed, batch, place)
    settings = Settings(steps, batch, rate, seed, autocast=place.type != "cpu")
    Trainer(task, settings, out, device=place, compiled=compiled).run(minutes=minutes)


@app.command("video-vae")
def video_vae(
    out: Out,
    vae: Annotated[Path, typer.Option(help="Export of the pictures' autoencoder.")],
    steps: Steps = 4000,
    batch: Annotated[int, typer.Option(min=8, help="Windows of clips in a step.")] = 32,
    rate: Rate = 2e-3,
    pictures: Annotated[int, typer.Option(min=1, help="Different clips to learn from.")] = 8192,
    seed: int = 0,
    minutes: Minutes = None,
    device: Device = "cpu",
    compiled: Compiled = False,
) -> None:
    """The autoencoder of clips, which demo:video needs."""
    from tocache.demo.train.video_vae import VideoVaeTask

    place = torch.device(device)
    task = VideoVaeTask(seed, batch, place, vae=vae, cache=out.parent / "latents", pictures=pictures)
    settings = Settings(steps, batch, rate, seed, autocast=place.type != "cpu")
    Trainer(task, settings, out, device=place, compiled=compiled).run(minutes=minutes)


def _latent_command(
    name: str,
    module: str,
    task: str,
    doc: str,
    *,
    steps: int,
    pictures: int,
    side: int = 256,
    depth: int = 12,
) -> None:
    """Add the command of a task that learns from latents: all of them have the same options."""

    def train(
        out: Out,
        vae: Vae,
        steps: Steps = steps,
        batch: Batch = 64,
        rate: Rate = 1e-3,
        pictures: Pictures = pictures,
        side: Side = side,
        start: Start = None,
        words: Words = None,
        halves: Halves = 0,
        shift: Shift = 1.0,
        width: int = 128,
        depth: int = depth,
        heads: int = 4,
        muon: bool = True,
        seed: int = 0,
        minutes: Minutes = None,
        device: Device = "cpu",
        bf16: Bf16 = None,
        compiled: Compiled = False,
    ) -> None:
        from tocache.demo.train.latent_task import Size

        place = torch.device(device)
        made = getattr(import_module(f"tocache.demo.train.{module}"), task)(
            seed,
            batch,
            place,
            vae=vae,
            cache=out.parent / "latents",
            pictures=pictures,
            side=side,
            size=Size(width, depth, heads),
            start=start,
            words=words,
            halves=halves,
            shift=shift,
        )
        half = bf16 if bf16 is not None else place.type != "cpu"
        settings = Settings(steps, batch, rate, seed, muon=muon, autocast=half)
        Trainer(made, settings, out, device=place, compiled=compiled).run(minutes=minutes)

    app.command(name, help=doc)(train)


_latent_command("text", "text", "TextTask", "demo:text, text to picture.", steps=20000, pictures=65536)
_latent_command("class", "classes", "ClassTask", "demo:class, digit to picture.", steps=10000, pictures=16384)
_latent_command(
    "video",
    "video",
    "VideoTask",
    "demo:video, text to video; --depth counts pairs of a spatial and a temporal block.",
    steps=20000,
    pictures=16384,
    side=128,
    depth=6,
)


@app.command("merge")
def merge_runs(
    out: Out,
    base: Annotated[Path, typer.Option(help="Export to add to.")],
    grown: Annotated[Path, typer.Option(help="Export of a run that went on from --small at a larger size.")],
    small: Annotated[Path, typer.Option(help="Export that --grown and --base both began with.")],
) -> None:
    """Add what one run learned on its way to a larger size to another run's weights."""
    from tocache.demo.train.merge import merge

    print(merge(base, grown, small, out))


@app.command("ship")
def ship_run(
    name: Annotated[str, typer.Argument(help="demo:text, demo:class or demo:video.")],
    run: Annotated[list[Path], typer.Option(help="A run that led to it; repeat, in order, the autoencoder's first.")],
    figures: Annotated[Path | None, typer.Option(help="What `python -m tocache.demo.measure -o` wrote.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="A sentence for the card; repeat.")] = None,
) -> None:
    """Write a finished run's pipeline and its model card into the package."""
    from tocache.demo.train.ship import ship

    print(ship(name, run, figures, note or ()))


if __name__ == "__main__":
    app()
