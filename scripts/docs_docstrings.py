"""Docstrings of this project as Markdown: what they align in columns becomes a list. An extension of griffe.

    interval       steps between full ones
    time, depth    the weights of a weighted ratio

reads well in an editor, and would be one run-on line on the site.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# a name, or several, then at least two spaces, or three where the names are several, and text
ENTRY = re.compile(r"^(?P<indent> *)(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*) {2,}(?P<text>\S.*)$")


class AlignedLists(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """`docstring` with its aligned lists as lists of Markdown; an entry's further lines are indented deeper."""
    lines: list[str] = []
    inside: int | None = None  # the indentation of the list that is being read
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if entry := ENTRY.match(line):
            if inside is None:
                lines.append("")
            inside = indent
            names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
            lines.append(f"{entry['indent']}- {names}: {entry['text']}")
        elif inside is not None and line.strip() and indent > inside:
            lines.append(f"{' ' * inside}    {line.strip()}")
        else:
            if inside is not None and line.strip():
                lines.append("")
            inside = None
            lines.append(line)
    return "\n".join(lines)
