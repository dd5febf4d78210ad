"""`serve`: the app on this machine, for this machine unless told otherwise."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.reporting.page import asset
from tocache.webapp.studio import Studio

HOST, PORT = "127.0.0.1", 7860
MODELS = ("demo:text", "demo:class")
_WAITING = 32  # users in the queue, at most
_FONT = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")


def serve(models: Sequence[str] = MODELS, *, host: str = HOST, port: int = PORT, **options: Any) -> None:
    """Serves the app until it is interrupted; see `served`."""
    with served(models, host=host, port=port, **options) as (url, _):
        print(f"tocache app: {url} (stop it with Ctrl-C)", flush=True)
        while True:
            time.sleep(3600)


@contextmanager
def served(
    models: Sequence[str] = MODELS,
    *,
    host: str = HOST,
    port: int | None = PORT,
    device: str | None = None,
    dtype: str | None = None,
    folder: Path | None = None,
) -> Iterator[tuple[str, Studio]]:
    """The app's address and its studio, for the length of a with-block.

    models   what can be chosen: demos, folders in diffusers' format or hub ids
    host     127.0.0.1 is this machine alone; 0.0.0.0 lets the network in, with no password
    port     None: the first that is free
    folder   takes all files of the app; None: a temporary one, which is removed afterwards

    Nothing is shared, measured or sent anywhere. Raises OptionError without Gradio, for a port that is taken and for
    a folder that cannot be.
    """
    studio = Studio(models, device=device, dtype=dtype)
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocache-app-")))
        place = _folder(folder)
        # Gradio reads these when it is imported and when its parts are made
        os.environ["GRADIO_TEMP_DIR"] = str(place)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        try:
            import gradio as gr

            from tocache.webapp.interface import Interface
        except ImportError as error:
            raise OptionError("the app needs Gradio: pip install 'tocache[app]'") from error
        blocks = Interface(studio, place).blocks()
        blocks.queue(max_size=_WAITING, default_concurrency_limit=1, api_open=False)
        try:
            _, url, _ = blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                enable_monitoring=False,
                run_history=False,
                show_error=False,
                footer_links=[],
                allowed_paths=[str(place)],
                max_file_size="64kb",
                theme=gr.themes.Default(primary_hue="blue", font=list(_FONT), font_mono=list(_MONO)),
                css="\n".join((asset("plan.css"), _style())),
            )
        except OSError as error:
            raise OptionError(f"host={host!r}, port={port!r}: cannot be served: {error}") from error
        try:
            yield url, studio
        finally:
            blocks.close(verbose=False)


def _folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises OptionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"folder={str(folder)!r}: cannot be made: {error.strerror or error}") from error
    return folder.resolve()


def _style() -> str:
    return (files("tocache.webapp") / "templates" / "app.css").read_text(encoding="utf-8")
