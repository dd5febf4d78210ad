"""The site that scripts/docs builds: whole, without a warning, and with nothing in it from elsewhere."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .shown import ROOT

FROM_ELSEWHERE = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//|'
    r"@import|url\(\s*[\"']?(?:https?:)?//"
)


def script(name: str) -> Any:
    """A module of scripts/, which is no package."""
    spec = spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_aligned_list_becomes_a_list_and_prose_stays() -> None:
    pytest.importorskip("griffe")
    as_markdown = script("docs_docstrings").as_markdown
    docstring = "What it does.\n\ninterval    steps from one\n            to the next\ntime, depth  weights\n\nNo more."
    assert as_markdown(docstring) == (
        "What it does.\n\n\n- `interval`: steps from one\n    to the next\n- `time`, `depth`: weights\n\nNo more."
    )
    prose = "One sentence.  Another one.\n\n    indented = code\n"
    assert as_markdown(prose).split() == prose.split()


def test_links_of_the_repository_become_links_of_the_site() -> None:
    pytest.importorskip("mkdocs")
    pages = script("docs_pages")
    outside = pages.outside_pages()
    assert set(outside) == {"index.md", "contributing.md", "recipes.md", "changelog.md"}
    assert "](quickstart.md)" in outside["index.md"]
    assert "](images/" in outside["index.md"]
    assert "](contributing.md)" in outside["index.md"]
    assert outside["recipes.md"].startswith(pages.RECIPES_TITLE + "## Add a method")
    assert "## Add a method" not in outside["contributing.md"]
    shown = "[a](../CONTRIBUTING.md#add-a-score) [b](../CONTRIBUTING.md) [c](method.md#x)"
    there = SimpleNamespace(file=SimpleNamespace(src_uri="safe.md"))
    deeper = SimpleNamespace(file=SimpleNamespace(src_uri="api/errors.md"))
    moved = pages.on_page_markdown(shown, page=there)
    assert moved == "[a](recipes.md#add-a-score) [b](contributing.md) [c](method.md#x)"
    assert pages.on_page_markdown("[d](../safe.md)", page=deeper) == "[d](../safe.md)"


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    site = tmp_path / "site"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(site), strict=True))
    names = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    written = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert names == written | {"index", "contributing", "recipes", "changelog", "404"}
    assert (site / "benchmarks" / "results" / "latency.jsonl").is_file()
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert FROM_ELSEWHERE.search(file.read_text(encoding="utf-8")) is None, file.name
