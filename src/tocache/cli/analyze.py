"""`tocache analyze`: five studies of what a cache meets in a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import Device, Dtype, Guidance, Model

if TYPE_CHECKING:
    from tocache.analysis import Subject

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.", show_default=False)]
Prompts = Annotated[
    str, typer.Option(help="How many of the demos' own prompts, or a file with one in each line; drawn in one batch.")
]
Steps = Annotated[int | None, typer.Option(help="Sampling steps; the default is the model's own.")]
Seed = Annotated[int, typer.Option(help="Of the first picture's noise; the others count up.")]
Kinds = Annotated[
    str | None, typer.Option(help="Of layers, with commas between, e.g. mlp,cross-attention.", show_default="mlp")
]

analyze = typer.Typer(
    no_args_is_help=True,
    help="Study a model: how features change, what errors do, what choosing tokens is worth. Each study writes a "
    "picture and a file with its figures.",
)


@analyze.command()
def redundancy(
    output: Output,
    model: Model = "demo:text",
    prompts: Prompts = "4",
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """How far each token's feature moves from step to step, by layer."""
    from tocache import analysis

    options = _options(prompts, steps, guidance, seed, device, dtype)
    _study("redundancy", ".csv", model, options, output, analysis.redundancy)


@analyze.command()
def propagation(
    output: Output,
    model: Model = "demo:text",
    kinds: Kinds = None,
    looked: Annotated[int, typer.Option("--in-steps", help="Steps in which noise is put on.")] = 3,
    tokens: Annotated[int, typer.Option(help="Tokens of the image that get noise, at most.")] = 64,
    strength: Annotated[float, typer.Option(help="Length of the noise ÷ mean length of the layer's tokens.")] = 0.5,
    prompts: Prompts = "1",
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """What the same noise does at the output, put on one token after the other."""
    from tocache import analysis

    def study(subject: Subject) -> Any:
        return analysis.propagation(
            subject, kinds=_words(kinds), steps=looked, tokens=tokens, strength=strength, seed=seed
        )

    options = _options(prompts, steps, guidance, seed, device, dtype)
    _study("propagation", ".npz", model, options, output, study)


@analyze.command()
def sensitivity(
    output: Output,
    model: Model = "demo:text",
    probes: Annotated[
        str, typer.Option(help="Runs to the end, by which the others are estimated; or all, which takes long.")
    ] = "24",
    prompts: Prompts = "1",
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """What is lost when one layer in one step is served from the cache."""
    from tocache import analysis

    def study(subject: Subject) -> Any:
        return analysis.sensitivity(subject, probes=None if probes == "all" else _count("probes", probes))

    options = _options(prompts, steps, guidance, seed, device, dtype)
    _study("sensitivity", ".csv", model, options, output, study)


@analyze.command()
def selection(
    output: Output,
    model: Model = "demo:text",
    method: Annotated[
        str | None,
        typer.Option(help="A method and its options, e.g. toca:share=step.", show_default="published for the model"),
    ] = None,
    prompts: Prompts = "1",
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Which tokens a method computes, by step and layer, over the first picture; of videos an animation."""
    from tocache import analysis
    from tocache.planning import method_from

    chosen = None if method is None else method_from(method)
    assert not isinstance(chosen, str)  # that would be a preset's name

    def study(subject: Subject) -> Any:
        return analysis.selection(subject, chosen)

    options = _options(prompts, steps, guidance, seed, device, dtype)
    _study("selection", ".npz", model, options, output, study)


@analyze.command()
def scores(
    output: Output,
    model: Model = "demo:text",
    names: Annotated[
        str | None,
        typer.Option("--scores", help="With commas between, e.g. influence,norm.", show_default="all"),
    ] = None,
    kinds: Annotated[
        str | None, typer.Option(help="Of layers, with commas between.", show_default="all but attention")
    ] = None,
    interval: Annotated[int, typer.Option(help="Steps from one full step to the next.")] = 3,
    looked: Annotated[int, typer.Option("--in-steps", help="Served steps that are looked at.")] = 3,
    sites: Annotated[int, typer.Option(help="Layers of each kind.")] = 6,
    tokens: Annotated[int, typer.Option(help="Tokens of the image that are tried, at most.")] = 36,
    prompts: Prompts = "2",
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """How well each score foretells which tokens are worth computing."""
    from tocache import analysis

    def study(subject: Subject) -> Any:
        return analysis.scores(
            subject,
            _words(names),
            kinds=_words(kinds),
            interval=interval,
            steps=looked,
            sites=sites,
            tokens=tokens,
        )

    options = _options(prompts, steps, guidance, seed, device, dtype)
    _study("scores", ".csv", model, options, output, study)


def _study(
    name: str, data: str, model: str, options: dict[str, Any], output: Path, study: Callable[[Subject], Any]
) -> None:
    """Loads the model, makes the study, writes its picture and its data, and says what was found."""
    from tocache.analysis import Subject
    from tocache.cli.progress import work_bar
    from tocache.cli.show_analysis import show_study
    from tocache.errors import OptionError
    from tocache.plan.draw import pyplot_or_error

    pyplot_or_error("analyze")
    if output.exists() and not output.is_dir():
        raise OptionError(f"output={str(output)!r} is not a folder")
    with shown_warnings(), work_bar() as tell:
        found = study(Subject.load(model, **options, tell=tell))
    written = [output / f"{name}.png", output / f"{name}{data}"]
    found.draw(written[0])
    found.save(written[1])
    if found.about.get("video"):
        found.draw(output / f"{name}.gif")
        written.append(output / f"{name}.gif")
    show_study(found)
    for path in (*written, output / f"{name}.json"):
        typer.echo(f"saved: {path}")


def _options(
    prompts: str, steps: int | None, guidance: float | None, seed: int, device: str | None, dtype: str | None
) -> dict[str, Any]:
    given = int(prompts) if prompts.isdecimal() else Path(prompts)
    return {
        "prompts": given, "steps": steps, "guidance": guidance, "seed": seed, "device": device, "dtype": dtype
    }  # fmt: skip


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _count(name: str, text: str) -> int:
    from tocache.errors import OptionError

    if not text.isdecimal():
        raise OptionError(f"{name}={text!r} is not allowed; allowed: an integer >= 1, or all")
    return int(text)
