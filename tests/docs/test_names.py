"""What pages name exists: errors, warnings and messages of ours, options of other packages, methods' options."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import tocache
from tocache import errors
from tocache.methods import METHODS, Composed, Method, Planned

from .shown import DOCS, SOURCE

CELL = re.compile(r"(?<!\\)\|")
MESSAGES = "Some messages, and what they want to say:"  # the line before their table in troubleshooting.md
CLASSES: tuple[type[Method], ...] = (*METHODS.values(), Composed, Planned)
OURS = {cls.__name__: cls for cls in CLASSES}


def table(text: str, before: str) -> list[list[str]]:
    """The cells of the first table after the line `before`, without its head."""
    after = text.partition(f"\n{before}\n")[2]
    _, *lines = re.findall(r"^(?:\|.*\n)+", after, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in CELL.split(line)[1:-1]] for line in lines[1:]]


def parameters(called: Any) -> set[str]:
    return set(inspect.signature(called).parameters)


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


class TestTroubleshooting:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    code = re.sub(
        r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py")))
    )  # a literal over several lines is one

    def test_every_error_has_its_row_and_its_bases(self) -> None:
        classes = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls)}
        known = {name for name, cls in classes.items() if issubclass(cls, errors.TocacheError)}
        told = {quoted(row[0])[0]: quoted(row[0])[1:] for row in table(self.text, "## Errors")}
        assert told.keys() == known
        for name, bases in told.items():
            assert set(bases) <= {cls.__name__ for cls in classes[name].__mro__}
        assert "`tocache.TocacheWarning`" in self.text

    def test_quoted_messages_are_those_of_the_code(self) -> None:
        warned = [message for row in table(self.text, "## Warnings") for message in quoted(row[0])]
        raised = [message for row in table(self.text, MESSAGES) for message in quoted(row[0])]
        assert len(warned) > 8
        assert len(raised) > 15
        assert [message for message in (*warned, *raised) if message not in self.code] == []

    def test_every_warning_of_the_code_is_explained(self) -> None:
        given = re.findall(r'(?:self\._warn|warnings\.warn)\(\s*f?"((?:[^"\\]|\\.)*)"', self.code)
        given = [text for text in given if not text.startswith("tocache: {")]  # where the engine gives all of its own
        assert len(given) >= 6
        told = [message for row in table(self.text, "## Warnings") for message in quoted(row[0])]
        assert [text for text in given if not any(message in text for message in told)] == []


class TestComingFrom:
    """docs/coming-from.md against the packages that are installed."""

    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", ["DBCacheConfig", "TaylorSeerCalibratorConfig"])
    def test_every_option_of_cache_dit_is_told(self, name: str) -> None:
        cache_dit: Any = pytest.importorskip("cache_dit")
        told = {option for row in table(self.text, f"`{name}`:") for option in quoted(row[0])} - {"steps_mask"}
        assert told == parameters(getattr(cache_dit, name))

    def test_functions_and_classes_of_cache_dit_exist(self) -> None:
        cache_dit: Any = pytest.importorskip("cache_dit")
        named = [name for row in table(self.text, "## cache-dit") for name in quoted(row[0])] + ["steps_mask"]
        assert len(named) > 6
        assert [name for name in named if not hasattr(cache_dit, name.partition("(")[0])] == []

    @pytest.mark.parametrize("name", ["PyramidAttentionBroadcastConfig", "TaylorSeerCacheConfig"])
    def test_options_of_diffusers_exist(self, name: str) -> None:
        diffusers: Any = pytest.importorskip("diffusers", minversion="0.42")
        told = {option for row in table(self.text, f"`{name}`:") for option in quoted(row[0])}
        assert len(told) > 5
        assert told <= parameters(getattr(diffusers, name))

    def test_the_other_caches_of_diffusers_exist(self) -> None:
        diffusers: Any = pytest.importorskip("diffusers", minversion="0.42")
        others = [quoted(row[0]) for row in table(self.text, "The others:")]
        assert len(others) > 4
        for config, *options in others:
            assert set(options) <= parameters(getattr(diffusers, config)), config

    def test_methods_and_options_of_ours_exist(self) -> None:
        calls = re.findall(r"`(?:tocache\.)?(\w+)\(([^`()]*)\)`", self.text)
        checked = 0
        for name, arguments in calls:
            if name not in OURS:
                continue
            known = parameters(OURS[name])
            given = {part.partition("=")[0].strip() for part in arguments.split(",") if part.strip()}
            assert {word for word in given if word.isidentifier()} <= known, name
            checked += 1
        assert checked > 6


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.stem)
def test_the_api_names_what_exists(page: Path) -> None:
    for path in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        module, _, name = path.rpartition(".")
        try:
            assert hasattr(importlib.import_module(module), name), path
        except ModuleNotFoundError:
            importlib.import_module(path)


def test_every_public_name_is_in_the_api() -> None:
    shown = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    public = set(tocache.__all__) - {"__version__"}
    named = set(re.findall(r"^::: tocache\.(\w+)$", shown, re.MULTILINE))
    assert public - named == {name for name in public if name.endswith(("Error", "Warning"))}  # api/errors.md has these
