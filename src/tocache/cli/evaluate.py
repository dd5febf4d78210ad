"""`tocache evaluate`: pictures against references, prompts and other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tocache.cli import evaluate_options as options
from tocache.cli.errors import shown_warnings
from tocache.errors import OptionError

if TYPE_CHECKING:
    from tocache.evaluation.sets.report import Report


def evaluate(
    samples: options.Samples = None,
    reference: options.Reference = None,
    against: options.Against = None,
    prompts: options.PromptLines = None,
    metrics: options.Metrics = None,
    features: options.Features = "inception",
    clip: options.Clip = None,
    output: options.Output = None,
    save_reference: options.SaveReference = None,
    square: options.Square = None,
    manifold: options.Manifold = 10_000,
    intervals: options.Intervals = True,
    batch: options.Batch = None,
    device: options.Device = None,
    fetch: options.Fetch = False,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    export: options.Export = None,
    prompt_file: options.PromptFile = None,
    import_: options.Import = None,
    prompts_of: options.PromptsOf = None,
    paper: options.Paper = None,
    data: options.Data = Path("data"),
) -> None:
    """Measure pictures: FID, sFID, IS, precision, recall, CLIP, PSNR, SSIM, LPIPS, with intervals."""
    from tocache.cli.progress import work_bar
    from tocache.evaluation.sets.clip import DEFAULT
    from tocache.evaluation.sets.evaluate import evaluate as measure
    from tocache.evaluation.sets.reference import cache_folder
    from tocache.evaluation.tools.exchange import read_lines

    if paper is not None:
        return _show_paper(paper, data)
    if prompts_of is not None:
        return _write_prompts(prompts_of, output)
    if samples is None and (export or not import_):
        raise OptionError("give samples: a folder of pictures or an .npz; or --import, --prompts-of or --paper")
    given = None if prompts is None else read_lines(prompts)
    report = None
    if samples is not None:
        _export(export or (), samples, given, prompt_file)
        wished = any(option is not None for option in (reference, against, metrics, save_reference))
        if wished or not (export or import_):
            with shown_warnings(), work_bar() as tell:
                report = measure(
                    samples,
                    reference=reference,
                    against=against,
                    prompts=given,
                    metrics=_names(metrics),
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
    if report is not None or import_:
        _put_out(report, import_ or (), output)
    if report is not None and save_reference is not None:
        typer.echo(f"saved: {save_reference}")


def _show_paper(name: str, data: Path) -> None:
    from tocache.cli.show_evaluation import show_paper
    from tocache.evaluation.papers import check_paper, paper_named

    table = paper_named(name)
    show_paper(table, check_paper(table, data), data)


def _write_prompts(of: str, output: Path | None) -> None:
    from tocache.evaluation.tools.exchange import write_prompts

    if output is None:
        raise OptionError("--prompts-of needs a file to write to; -o says which")
    typer.echo(f"{write_prompts(of, output)} prompts saved: {output}")


def _export(wishes: Sequence[str], samples: Path, prompts: Sequence[str] | None, prompt_file: Path | None) -> None:
    from tocache.evaluation.tools.exchange import export_to

    for wish in wishes:
        for line in export_to(wish, samples, prompts, prompt_file):
            typer.echo(line)


def _names(metrics: str | None) -> list[str] | None:
    return None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]


def _put_out(report: Report | None, imports: Sequence[str], output: Path | None) -> None:
    from tocache.cli.show_evaluation import show_report
    from tocache.evaluation.sets.report import write_report
    from tocache.evaluation.tools.exchange import import_from

    report = import_from(imports, report, output)
    show_report(report)
    if output is not None:
        write_report(report, output)
        typer.echo(f"saved: {output}")
