"""Exports and imports by name, as `tool=path`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tocache.errors import OptionError
from tocache.evaluation.sets.report import Report, read_report
from tocache.evaluation.tools import TOOLS, Tool, tool
from tocache.evaluation.tools.drawn import open_drawn, write


def named(text: str) -> tuple[str, Tool, Path]:
    """Name, tool and path of `tool=path`. Raises OptionError for anything else."""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise OptionError(f"{text!r} is not allowed; allowed: tool=path, tools being {', '.join(TOOLS)}")
    return name, tool(name), Path(path)


def export_to(text: str, samples: Path, prompts: Sequence[str] | None, prompt_file: Path | None) -> list[str]:
    """Lays `samples` out as `tool=folder` says; what to do next, in lines."""
    _, found, folder = named(text)
    drawn = open_drawn(samples, prompts)
    lines = found.export(drawn, folder, prompt_file)
    return [f"{len(drawn.prompts)} files for {found.NAME}: {folder}", *lines]


def import_from(texts: Iterable[str], report: Report | None, file: Path | None) -> Report:
    """Adds what tools found, as `tool=path` each, to `report`, or else to the one in `file`, or else to a new one."""
    found = {}
    for text in texts:
        name, by, path = named(text)
        found[name] = {**by.read_results(path), "source": str(path)}
    if report is None:
        report = read_report(file) if file is not None and file.is_file() else Report()
    return replace(report, imported={**report.imported, **found}) if found else report


def write_prompts(text: str, file: Path) -> int:
    """Writes the prompts of `tool=file`, one per line, to a .txt or as objects to a .jsonl; how many.

    Raises OptionError where a prompt of several lines is to go into a .txt.
    """
    _, found, source = named(text)
    prompts = found.read_prompts(source)
    if file.suffix.lower() == ".jsonl":
        write(file, "".join(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in prompts))
    else:
        for prompt in prompts:
            if "\n" in prompt or "\r" in prompt:
                raise OptionError(f"a prompt has several lines, which {file.name} cannot hold; write a .jsonl instead")
        write(file, "".join(f"{prompt}\n" for prompt in prompts))
    return len(prompts)


def read_lines(file: Path) -> list[str]:
    """One prompt per line, empty ones at the end left out. Raises OptionError where `file` cannot be read."""
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{file}: cannot be read: {error}") from error
