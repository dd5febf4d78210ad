"""Every fenced block of the pages: Python runs here, commands in test_commands.py, and the others are named."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from .shown import NOT_RUN, PAGES, ROOT, blocks, execute

# A block that no test runs says why to its reader, and here. Nothing that could run may be added.
REASONS = {
    "README.md": ["sets up environments"],
    "CONTRIBUTING.md": ["sets up environments"],
    "docs/ablations.md": ["half an hour"],
    "docs/compare.md": ["serves until it is stopped"],
    "docs/evaluation.md": ["downloads DINOv2"],
    "docs/frontier.md": ["installs packages"],
    "docs/open-sora.md": ["installs packages", "needs the published checkpoints"],
    "docs/performance.md": ["needs a checkpoint", "needs wheels and a GPU"],
    "docs/quickstart.md": ["installs packages"],
    "docs/scale.md": ["installs packages", "needs several machines", "needs a SLURM cluster"],
}
RECIPES = ("A method", "A score", "A family")  # tests/test_docs.py runs these, and `diff` is compared there
SLOW = ("docs/tuning.md",)
LOOKED_AT = ("python", "bash", "diff", "text")  # `text` is output, or a picture made of letters


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_python() -> Iterator[Any]:
    for page in PAGES:
        if any(block.runs and block.title not in RECIPES for block in blocks(page, "python")):
            marks = pytest.mark.slow if name_of(page) in SLOW else ()
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", list(with_python()))
def test_python_runs_in_the_order_of_the_page(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if not block.runs or block.title in RECIPES:
            continue
        code = block.code if torch.cuda.is_available() else block.code.replace('"cuda"', '"cpu"')
        with warnings.catch_warnings():
            # of diffusers, which renames this argument; the pages keep the name that every supported version knows
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            execute(block, names, code)
        if "pipe" in names:
            names["pipe"].set_progress_bar_config(disable=True)
    assert "no run yet" not in capsys.readouterr().out


def test_blocks_that_are_not_run_say_why_and_are_known() -> None:
    found = {
        name_of(page): [block.title.removeprefix(NOT_RUN) for block in blocks(page) if not block.runs] for page in PAGES
    }
    assert {page: reasons for page, reasons in found.items() if reasons} == REASONS


def test_every_block_is_of_a_language_that_some_test_looks_at() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert len(every) > 40
    strange = [(b.page.name, b.line, b.language, b.more) for b in every if b.more or b.language not in LOOKED_AT]
    assert strange == []
    fences = sum(len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(every)  # no block went unseen


def test_packages_and_scripts_that_blocks_name_exist() -> None:
    shown = "\n".join(block.code for page in PAGES for block in blocks(page, "bash"))
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r'^pip install "(?:\.|tocache)\[(\w+)\]"', shown, re.MULTILINE)
    assert len(named) > 5
    assert set(named) <= extras
    scripts = re.findall(r"^(scripts/[\w-]+|\.ci/\w+)", shown, re.MULTILINE)
    assert len(scripts) > 8
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
