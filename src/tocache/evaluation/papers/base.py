"""What a published table is made of, and how its needs are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tocache.errors import OptionError

HERE = "export HERE=$PWD   # commands of other checkouts read and write below it"

Step = tuple[str, list[str]]
"""What is done, and its lines."""


@dataclass(frozen=True)
class Row:
    """One setting of a table.

    label      as the table calls it
    folder     what its samples and report are called
    options    of `tocache sample`
    published  by the table's columns, as printed
    """

    label: str
    folder: str
    options: str
    published: tuple[str, ...]


@dataclass(frozen=True)
class Need:
    """Something that the commands need; `why_missing` says why it is not here, and None where it is."""

    what: str
    why_missing: Callable[[Path], str | None]


@dataclass(frozen=True)
class Missing:
    """A need that is not met."""

    what: str
    why: str


@dataclass(frozen=True)
class Paper:
    """A table: `steps` gives the commands in order, captions and references being in the folder it is given."""

    name: str
    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    needs: tuple[Need, ...]
    notes: tuple[str, ...]
    steps: Callable[[Path], Sequence[Step]]


def for_each(rows: Sequence[Row], *commands: str) -> list[str]:
    """A shell loop that runs `commands` for each row, `$name` being its folder and `$options` its options."""
    if not any("$options" in command for command in commands):
        names = " ".join(row.folder for row in rows)
        return [f"for name in {names}; do", *(f"  {command}" for command in commands), "done"]
    width = max(len(row.folder) for row in rows)
    return [
        "while read -r name options; do",
        *(f"  {command}" for command in commands),
        "done <<'ROWS'",
        *(f"{row.folder:{width}}  {row.options}" for row in rows),
        "ROWS",
    ]


def file_need(name: str, where: str, *, sha256: str | None = None, arrays: Sequence[str] = ()) -> Need:
    """A file in the folder of data.

    where   it is published
    sha256  of the file, where it is known
    arrays  one of which an .npz must hold
    """

    def why_missing(data: Path) -> str | None:
        file = data / name
        if not file.is_file():
            return f"{file} is not there; {where}"
        if sha256 is not None and hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            return f"{file} is another file than the published one (SHA-256 {sha256[:12]}…); {where}"
        if arrays:
            from tocache.evaluation.sets.npz import arrays_of

            try:
                found = arrays_of(file)
            except OptionError as error:
                return str(error)
            if not found.keys() & set(arrays):
                return f"{file} holds {', '.join(sorted(found)) or 'nothing'}, none of {', '.join(arrays)}"
        return None

    return Need(name, why_missing)


def model_need(repository: str, file: str = "model_index.json", note: str = "") -> Need:
    """A model in Hugging Face's cache."""

    def why_missing(_data: Path) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        if isinstance(try_to_load_from_cache(repository, file), str):
            return None
        return f"not in Hugging Face's cache; `tocache sample` downloads it{note and f', {note}'}"

    return Need(repository, why_missing)


def folder_need(name: str, how: str, file: str = "model_index.json") -> Need:
    """A model in a folder beside the data."""

    def why_missing(_data: Path) -> str | None:
        return None if (Path(name) / file).is_file() else f"{name} is not there; {how}"

    return Need(name, why_missing)


def inception_need() -> Need:
    """torch-fidelity with Inception's weights."""

    def why_missing(_data: Path) -> str | None:
        import torch

        from tocache.evaluation.sets.inception import load_inception

        try:
            load_inception(torch.device("cpu"))
        except OptionError as error:
            return str(error)
        return None

    return Need("Inception v3", why_missing)


def clip_need(name: str) -> Need:
    """A CLIP in Hugging Face's cache."""

    def why_missing(_data: Path) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        here = any(isinstance(try_to_load_from_cache(name, f), str) for f in ("model.safetensors", "pytorch_model.bin"))
        return None if here else "not in Hugging Face's cache; --fetch downloads it"

    return Need(name, why_missing)
