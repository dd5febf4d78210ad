"""`tocache evaluate`: pictures against references, prompts and other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings

_TOOLS = "Other benchmarks"
_PAPERS = "Published tables"


def evaluate(
    samples: Annotated[
        Path | None,
        typer.Argument(help="A folder of pictures, of `tocache sample`, or an .npz of ADM.", show_default=False),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Real pictures: a folder, or an .npz with pictures, mu and sigma, or both.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Pictures of the same names to compare with one by one, e.g. without a cache.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A prompt per line, in the order of the pictures; the manifest's otherwise.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="fid,sfid,is,precision,recall,clip,psnr,ssim,lpips,judge; the default is what can be measured."
        ),
    ] = None,
    features: Annotated[
        str, typer.Option(help="inception, judge (offline, of the demos), or module:callable.")
    ] = "inception",
    clip: Annotated[
        str | None,
        typer.Option(
            help="A hub id or folder in transformers' format, or open_clip:architecture/weights.",
            show_default="openai/clip-vit-large-patch14",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report, as JSON.")] = None,
    save_reference: Annotated[
        Path | None, typer.Option(help="Write the samples as a reference .npz that ADM's evaluator reads, too.")
    ] = None,
    square: Annotated[
        int | None, typer.Option(help="Cut the reference's pictures to the middle, so many pixels wide.")
    ] = None,
    manifold: Annotated[
        int, typer.Option(help="Real pictures that make the manifold of precision and recall.")
    ] = 10_000,
    intervals: Annotated[
        bool, typer.Option("--intervals/--no-intervals", help="95% intervals by bootstrap.", show_default=False)
    ] = True,
    batch: Annotated[int | None, typer.Option(help="Pictures at once; 16 on a CPU, else 64 by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; the default is cuda if there.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download weights that are missing.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where statistics of references are kept.", show_default="~/.cache/tocache/references"),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep statistics.")] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            help="TOOL=FOLDER: lay the samples out for vbench, geneval, image-reward or hps.", rich_help_panel=_TOOLS
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="The tool's own prompt file, for --export.", rich_help_panel=_TOOLS)
    ] = None,
    import_: Annotated[
        list[str] | None,
        typer.Option("--import", help="TOOL=FILE: put a tool's results into the report at -o.", rich_help_panel=_TOOLS),
    ] = None,
    prompts_of: Annotated[
        str | None,
        typer.Option(
            help="TOOL=FILE: write a tool's prompts to -o, for `tocache sample --prompts`.", rich_help_panel=_TOOLS
        ),
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(
            help="pixart, dit, opensora or flux: the commands that reproduce its table, and what is missing for them.",
            rich_help_panel=_PAPERS,
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="The folder of its captions and references.", rich_help_panel=_PAPERS)
    ] = Path("data"),
) -> None:
    """Measure pictures: FID, sFID, IS, precision, recall, CLIP, PSNR, SSIM, LPIPS, with intervals."""
    from tocache.cli.progress import work_bar
    from tocache.cli.show_evaluation import show_paper, show_report
    from tocache.errors import OptionError
    from tocache.evaluation.papers import check_paper, paper_named
    from tocache.evaluation.sets.clip import DEFAULT
    from tocache.evaluation.sets.evaluate import evaluate as measure
    from tocache.evaluation.sets.reference import cache_folder
    from tocache.evaluation.sets.report import write_report
    from tocache.evaluation.tools.exchange import export_to, import_from, read_lines, write_prompts

    if paper is not None:
        table = paper_named(paper)
        show_paper(table, check_paper(table, data), data)
        return
    if prompts_of is not None:
        if output is None:
            raise OptionError("--prompts-of needs a file to write to; -o says which")
        typer.echo(f"{write_prompts(prompts_of, output)} prompts saved: {output}")
        return
    if samples is None and (export or not import_):
        raise OptionError("give samples: a folder of pictures or an .npz; or --import, --prompts-of or --paper")
    given = None if prompts is None else read_lines(prompts)
    report = None
    if samples is not None:
        for one in export or ():
            for line in export_to(one, samples, given, prompt_file):
                typer.echo(line)
        asked = any(option is not None for option in (reference, against, metrics, save_reference))
        if not asked and (export or import_):
            samples = None  # nothing is to be measured
    if samples is not None:
        names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
        with shown_warnings(), work_bar() as tell:
            report = measure(
                samples,
                reference=reference,
                against=against,
                prompts=given,
                metrics=names,
                features=features,
                clip=clip or DEFAULT,
                square=square,
                manifold=manifold,
                intervals=intervals,
                batch=batch,
                device=device,
                fetch=fetch,
                cache=None if no_cache else cache or cache_folder(),
                save_reference=save_reference,
                tell=tell,
            )
    if report is None and not import_:
        return
    report = import_from(import_ or (), report, output)
    show_report(report)
    if output is not None:
        write_report(report, output)
        typer.echo(f"saved: {output}")
    if save_reference is not None:
        typer.echo(f"saved: {save_reference}")
