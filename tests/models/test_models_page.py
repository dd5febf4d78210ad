"""The tables of docs/models.md are what the registry and a run of each miniature give."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = next(
    line.partition("==")[2].strip()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.startswith("diffusers==")
)


@pytest.fixture(scope="module")
def page() -> Any:
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "scripts" / "models_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(version("diffusers") != PINNED, reason=f"the page is made with diffusers {PINNED}")
def test_the_page_is_up_to_date(page: Any) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text, page.tables(page.runs())) == text, "run scripts/models_page.py"


def test_only_what_stands_between_the_marks_is_written(page: Any) -> None:
    text = "before\n<!-- made: sites -->\nold\n<!-- end -->\nafter\n"
    assert page.written(text, {"sites": "new\n"}) == text.replace("old", "new")
