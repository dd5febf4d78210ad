"""Options that several commands take, in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="A demo, a folder in diffusers' format, or a hub id.")]
Prompts = Annotated[str, typer.Option(help="How many of the demos' own prompts, or a file with one in each line.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale; the default is the model's own.")]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; the default is the first here.")]
Dtype = Annotated[str | None, typer.Option(help="bf16, fp16 or fp32; the default is bf16 on cuda.")]
Resolution = Annotated[str | None, typer.Option(help="Of videos, e.g. 480p.")]
AspectRatio = Annotated[str | None, typer.Option(help="Of videos, height : width, e.g. 9:16.")]
Duration = Annotated[str | None, typer.Option(help="Of videos, e.g. 2s, or their number of frames.")]
