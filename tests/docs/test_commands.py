"""Every `tocache` command of the pages: all are parsed as they are shown, and run with small models and few steps."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from tocache.cli.app import app

from .shown import DOCS, PAGES, ROOT, SIZES, blocks, write_files

# What the commands are asked to do less of, so that minutes become seconds: by command and option, the value in its
# place. An option in LESS is replaced where it is given, one in MORE is added where it is not.
LESS: dict[str, dict[str, str]] = {
    "sample": {"--num": "2", "--batch": "1", "--classes": "0-1"},
    "bench": {"--prompts": "2", "--points": "2", "--batch": "1", "--steps": "10"},
    "compare": {"--prompts": "1"},
    "tune": {"--steps": "12"},
    "analyze": {"--steps": "9"},
    "generate": {"--steps": "10", "--resolution": "144p", "--duration": "17"},
}
MORE: dict[str, dict[str, str]] = {
    "generate": {"--model": "demo:text", "--steps": "10"},
    "sample": {"--model": "demo:text", "--steps": "2", "--num": "2"},
    "bench": {"--model": "demo:text", "--steps": "10", "--prompts": "1", "--batch": "1", "--points": "2"}
    | {"--methods": "toca,fora", "--peers": "none"},
    "compare": {"--model": "demo:text", "--steps": "9"},
    "tune": {"--prompts": "2", "--steps": "12", "--trials": "2", "--by": "flops"},
    "analyze": {"--steps": "9", "--prompts": "1"},
}
STUDIES = {
    "propagation": {"--tokens": "2", "--in-steps": "1"},
    "sensitivity": {"--probes": "2"},
    "scores": {"--tokens": "3", "--in-steps": "1", "--sites": "1", "--scores": "norm,random"},
}
# trained demos by the random ones, which are smaller; Ray by this process: tests/sampling has a Ray of its own
MINIATURES = {"demo:text": "demo:random-text", "demo:class": "demo:random-class"}
# a plan of the published size fits no miniature
MINIATURES |= {"pixart-xl-2-256": "PixArt-alpha/PixArt-XL-2-256x256"}
DROPPED = ("--ray",)
# Where a command ends that needs weights which no test may fetch, and what it then says.
ENDS = {"VIRTUAL_imagenet256_labeled.npz": "Inception"}
# `tocache app` serves until it is stopped; tests/webapp has a browser look at it
ONLY_PARSED = ("app",)


@dataclass(frozen=True)
class Shown:
    """A command of a page as words, without `tocache`."""

    line: int
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0] if self.words else ""


def commands(page: Path) -> Iterator[Shown]:
    """The `tocache` commands of a page's blocks in their order; a backslash joins lines."""
    for block in blocks(page, "bash"):
        lines = re.sub(r"\\\n", " ", block.code).splitlines()
        for number, text in enumerate(lines):
            if text.startswith("tocache ") and " ... " not in text:
                yield Shown(block.line + number, tuple(shlex.split(text, comments=True)[1:]))


def test_every_command_parses_and_every_one_is_shown() -> None:
    group: Any = typer.main.get_command(app)
    shown = [command for page in PAGES for command in commands(page)]
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    shown += [
        Shown(0, tuple(shlex.split(line)[1:])) for line in re.findall(r"`(tocache plan --model [^`]+ --[^`]+)`", text)
    ]
    assert {command.name for command in shown} - {"--version"} == set(group.commands)
    for command in shown:
        if command.name in group.commands:
            with group.make_context("tocache", [command.name]) as parent:
                group.commands[command.name].make_context(command.name, list(command.words[1:]), parent=parent)


def small(command: Shown) -> list[str]:
    """The words of the command that runs in its place."""
    words = [MINIATURES.get(word, word) for word in command.words]
    less, more = LESS.get(command.name, {}), dict(MORE.get(command.name, {}))
    if command.name == "analyze":
        more |= STUDIES.get(words[1], {})
    if not torch.cuda.is_available():
        less = less | {"--device": "cpu"}
    if "--plan" in words:  # which knows its steps
        less, more = ({option: table[option] for option in table if option != "--steps"} for table in (less, more))
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in DROPPED:
            next(rest)
        elif word in less:
            value = next(rest)
            kept += [word, value if Path(value).suffix else less[word]]  # a file of prompts stays
        else:
            kept.append(word)
    for option, value in more.items():
        if option not in kept:
            kept += [option, MINIATURES.get(value, value)]
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(commands(page))], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_commands_run_in_the_order_of_the_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        monkeypatch.setenv(f"{library}_VERBOSITY", "error")
    monkeypatch.setenv("CACHE_DIT_LOG_LEVEL", "error")
    write_files(folder, page)
    # the random demos have 12 blocks where nothing else is said
    for make, sizes in SIZES.items():
        monkeypatch.setattr(sys.modules[make.__module__], make.__name__, partial(make, **sizes))
    ran = 0
    for command in commands(page):
        if command.name in ONLY_PARSED:
            continue
        result = CliRunner().invoke(app, small(command))
        where = f"{page.name}, line {command.line}: tocache {shlex.join(small(command))}\n{result.output}"
        end = next((said for word, said in ENDS.items() if word in command.words), None)
        if end is not None and result.exit_code == 2:
            assert end in result.stderr, where
        else:
            assert result.exit_code == 0, (where, result.exception)
        ran += 1
    assert ran or page.name == "compare.md"
