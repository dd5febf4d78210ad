"""The options of `tocache evaluate`, in the order of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TOOLS = "Other benchmarks"
_PAPERS = "Published tables"

Samples = Annotated[
    Path | None,
    typer.Argument(help="A folder of pictures, of `tocache sample`, or an .npz of ADM.", show_default=False),
]
Reference = Annotated[
    Path | None, typer.Option(help="Real pictures: a folder, or an .npz with pictures, mu and sigma, or both.")
]
Against = Annotated[
    Path | None, typer.Option(help="Pictures of the same names to compare with one by one, e.g. without a cache.")
]
PromptLines = Annotated[
    Path | None, typer.Option(help="A prompt per line, in the order of the pictures; the manifest's otherwise.")
]
Metrics = Annotated[
    str | None,
    typer.Option(help="fid,sfid,is,precision,recall,clip,psnr,ssim,lpips,judge; the default is what can be measured."),
]
Features = Annotated[str, typer.Option(help="inception, judge (offline, of the demos), or module:callable.")]
Clip = Annotated[
    str | None,
    typer.Option(
        help="A hub id or folder in transformers' format, or open_clip:architecture/weights.",
        show_default="openai/clip-vit-large-patch14",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the report, as JSON.")]
SaveReference = Annotated[
    Path | None, typer.Option(help="Write the samples as a reference .npz that ADM's evaluator reads, too.")
]
Square = Annotated[int | None, typer.Option(help="Cut the reference's pictures to the middle, so many pixels wide.")]
Manifold = Annotated[int, typer.Option(help="Real pictures that make the manifold of precision and recall.")]
Intervals = Annotated[
    bool, typer.Option("--intervals/--no-intervals", help="95% intervals by bootstrap.", show_default=False)
]
Batch = Annotated[int | None, typer.Option(help="Pictures at once; 16 on a CPU, else 64 by default.")]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; the default is cuda if there.")]
Fetch = Annotated[bool, typer.Option("--fetch", help="Download weights that are missing.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Where statistics of references are kept.", show_default="~/.cache/tocache/references"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep statistics.")]

Export = Annotated[
    list[str] | None,
    typer.Option(
        help="TOOL=FOLDER: lay the samples out for vbench, geneval, image-reward or hps.", rich_help_panel=_TOOLS
    ),
]
PromptFile = Annotated[
    Path | None, typer.Option(help="The tool's own prompt file, for --export.", rich_help_panel=_TOOLS)
]
Import = Annotated[
    list[str] | None,
    typer.Option("--import", help="TOOL=FILE: put a tool's results into the report at -o.", rich_help_panel=_TOOLS),
]
PromptsOf = Annotated[
    str | None,
    typer.Option(
        help="TOOL=FILE: write a tool's prompts to -o, for `tocache sample --prompts`.", rich_help_panel=_TOOLS
    ),
]

Paper = Annotated[
    str | None,
    typer.Option(
        help="pixart, dit, opensora or flux: the commands that reproduce its table, and what is missing for them.",
        rich_help_panel=_PAPERS,
    ),
]
Data = Annotated[Path, typer.Option(help="The folder of its captions and references.", rich_help_panel=_PAPERS)]
