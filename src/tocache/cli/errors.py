"""Errors and warnings as one clean line each, on the error stream."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from tocache.errors import TocacheError, TocacheWarning

BAD_INPUT = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """The group of commands; what tocache raises on purpose ends it with one line and exit code 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except TocacheError as error:
            _fail(str(error), BAD_INPUT)
        except (typer.Abort, KeyboardInterrupt):
            _fail("interrupted", INTERRUPTED)
        except Exception as error:
            # what typer says about a command line; its class has moved between packages
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            _fail(message(), BAD_INPUT)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Within it each warning of tocache is printed once, as one line; others go where they went."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", TocacheWarning)
        before = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, TocacheWarning):
                typer.echo(f"warning: {message}".replace("warning: tocache: ", "warning: "), err=True)
            else:
                before(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)
