"""Pages of the site that stand elsewhere in the repository, for mkdocs: each text is kept in one place.

README.md is the site's first page and CHANGELOG.md its last. CONTRIBUTING.md becomes two, the rules and the recipes.
The result files that the pages name lie beside them. In the repository all links are those between its files; here they
become those between pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
RECIPES = "## Add a method"  # from here on CONTRIBUTING.md is recipes
RECIPES_TITLE = "# Recipes: a method, a score, a model family\n\n"
# by what a link in the repository begins with, seen from its root: what it begins with on the site
LINKS = {
    "README.md": "index.md",
    "CONTRIBUTING.md#add-": "recipes.md#add-",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/": "",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies outside of docs/."""
    for page, text in outside_pages().items():
        files.append(File.generated(config, page, content=text))
    for results in sorted(filter(Path.is_file, (ROOT / "benchmarks" / "results").rglob("*"))):
        name = results.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, content=results.read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """A page of docs/ with its links out of that folder turned into links on the site; deeper pages stay inside."""
    if "/" in page.file.src_uri:
        return markdown
    return re.sub(r"(?<=\]\()\.\./([^)\s]+)", lambda link: _on_site(link[1]), markdown)


def outside_pages() -> dict[str, str]:
    """The pages from outside of docs/, by their names on the site."""
    readme, rules, changes = (_page(name) for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    rules, mark, recipes = rules.partition(RECIPES)
    return {
        "index.md": readme,
        "contributing.md": rules,
        "recipes.md": RECIPES_TITLE + mark + recipes,
        "changelog.md": changes,
    }


def _page(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"(?<=\]\()(?!\w+:|#)([^)\s]+)", lambda link: _on_site(link[1]), text)


def _on_site(path: str) -> str:
    """`path`, seen from the repository's root, as it is seen from the site's."""
    for begin, page in LINKS.items():
        if path.startswith(begin):
            return page + path.removeprefix(begin)
    return path
