"""`tocache app`: the same picture without and with a cache, interactively in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocache.cli.errors import shown_warnings
from tocache.cli.options import Device, Dtype


def serve_app(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="What can be chosen: a demo, a folder in diffusers' format or a hub id; may be given several times.",
            show_default="demo:text, demo:class",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets the network in, without a password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="To listen on.", min=1, max=65535)] = 7860,
    folder: Annotated[
        Path | None, typer.Option(help="Takes all files of the app.", show_default="a temporary one")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Try methods in a browser: prompt, model, method and its settings, both pictures, progress, the plan.

    Listens on this machine alone unless told otherwise, and sends nothing anywhere.
    """
    from tocache.webapp import serve
    from tocache.webapp.server import MODELS

    with shown_warnings():
        serve(tuple(model) if model else MODELS, host=host, port=port, folder=folder, device=device, dtype=dtype)
