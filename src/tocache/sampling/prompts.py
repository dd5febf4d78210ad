"""What is drawn: the prompts of a file, or classes; picture i gets the i-th, and begins anew behind the last one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tocache.demo import demo_folder, load_demo
from tocache.errors import OptionError, UnknownNameError, UnsupportedModelError
from tocache.models.architectures import meta_transformer
from tocache.planning import is_demo

Prompt = str | int
"""A text, or the number of a class."""
_COLUMNS = ("prompt", "caption")


@dataclass(frozen=True)
class Prompts:
    """A list without an end: `prompts[i]` is that of picture i."""

    values: tuple[Prompt, ...] = field(repr=False)

    def __getitem__(self, index: int) -> Prompt:
        return self.values[index % len(self.values)]

    def __len__(self) -> int:
        """How many there are before they begin anew."""
        return len(self.values)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of them, in their order."""
        digest = hashlib.sha256()
        for value in self.values:
            digest.update(json.dumps(value).encode() + b"\n")
        return digest.hexdigest()


def read_prompts(file: str | Path) -> Prompts:
    """The prompts of a text file, one in each line, or of a .jsonl file, each line an object with "prompt".

    Empty lines are left out, and white space around a prompt. "caption" will do for "prompt".

    Raises OptionError where the file cannot be read, or holds no prompt.
    """
    path = Path(file)
    try:
        # not splitlines(): a prompt may hold characters that Unicode calls line breaks
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read: {error}") from error
    found = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not found:
        raise OptionError(f"{path}: holds no prompt; write one in each line")
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return Prompts(tuple(_prompt_of(line, path, number) for number, line in found))
    return Prompts(tuple(line for _, line in found))


def read_classes(text: str, model: str | Path) -> Prompts:
    """Classes of a class-conditional model by number: `all`, or numbers and ranges such as `207,360,0-9`.

    Raises OptionError for what is neither, or beyond the model's classes, and for a model that takes prompts; and
    what `meta_transformer` raises for a model that is not there.
    """
    count = _count_classes(model)
    if text.strip() == "all":
        return Prompts(tuple(range(count)))
    numbers: list[Prompt] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < count:
            raise OptionError(
                f"classes={text!r} is not allowed; allowed: all, or numbers from 0 to {count - 1} and ranges of them, "
                "e.g. 0-9,207"
            )
        numbers += range(first, last + 1)
    return Prompts(tuple(numbers))


def _prompt_of(line: str, path: Path, number: int) -> str:
    try:
        values: Any = json.loads(line)
        return next(str(values[column]) for column in _COLUMNS if column in values)
    except (ValueError, TypeError, StopIteration) as error:
        raise OptionError(f'{path}, line {number}: not an object with "prompt"') from error


def _count_classes(model: str | Path) -> int:
    """How many classes a model has; nothing but its configuration is read, except of a random demo.

    A model may have more embeddings than classes: where it names its classes, the names count.
    """
    try:
        folder = demo_folder(str(model)) if is_demo(model) else Path(model)
    except UnknownNameError:  # a demo of random weights, which is no folder
        transformer = load_demo(str(model)).transformer
    else:
        index = folder / "model_index.json"
        names = json.loads(index.read_text(encoding="utf-8")).get("id2label") if index.is_file() else None
        if names:
            return len(names)
        transformer = meta_transformer(folder if folder.is_dir() else model)
    count = getattr(transformer.config, "num_embeds_ada_norm", None)
    if type(transformer).__name__ != "DiTTransformer2DModel" or count is None:
        raise UnsupportedModelError(f"{str(model)!r} takes prompts, not classes")
    return int(count)
