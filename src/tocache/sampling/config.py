"""Who may write into a folder of samples: one process at a time, and only with the options it was begun with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tocache.errors import OptionError, SamplesError
from tocache.samples import CONFIG, Layout
from tocache.samples.reader import read_config
from tocache.sampling.files import write_whole

LOCK = ".lock"
DRAWN_ON = "drawn on"
"""Where the configuration says what the workers told about themselves."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Makes a folder if need be, and keeps other processes from writing into it.

    A folder in which nothing was begun is left, or taken away, as it was found.

    Raises OptionError where `root` is a file, or a folder of something else, and SamplesError where another process
    writes into it.
    """
    new = not root.exists()
    if not new and not root.is_dir():
        raise OptionError(f"{root} is not a folder")
    if not new and not (root / CONFIG).exists() and any(path.name != LOCK for path in root.iterdir()):
        raise OptionError(f"{root} holds other files, and no {CONFIG}: samples need a folder of their own")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK)
        with lock.acquire(timeout=0):
            try:
                yield
            finally:
                if not (root / CONFIG).exists():
                    (root / LOCK).unlink(missing_ok=True)
                    if new:
                        with suppress(OSError):
                            root.rmdir()
    except Timeout as error:
        raise SamplesError(f"{root}: another process is writing into it") from error


def check_begun(layout: Layout, asked: Mapping[str, Any], num: int) -> None:
    """Raises OptionError, which names the differences, where a folder was begun with other options than `asked`.

    So it does where it was begun for more than `num` pictures.
    """
    if not layout.config.exists():
        return
    there = read_config(layout.config)
    _check_same(layout.root, there, asked)
    if there["num"] > num:
        raise OptionError(
            f"{layout.root} was begun for {there['num']} pictures: --num may be raised, but not lowered to {num}"
        )


def note_config(layout: Layout, asked: Mapping[str, Any], about: Mapping[str, Any], num: int) -> None:
    """Writes down what was asked, what the workers say about themselves, and how many pictures there will be.

    Raises OptionError where the pictures that are there were drawn on something else.
    """
    if layout.config.exists():
        _check_same(layout.root, read_config(layout.config)[DRAWN_ON], about)
    config = {**asked, "num": num, DRAWN_ON: dict(about)}
    write_whole(layout.config, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two configurations differ in, as `batch: 64 there, 32 here`."""
    names = dict.fromkeys((*here, *there))
    return [
        f"{name}: {_shown(there.get(name))} there, {_shown(here.get(name))} here"
        for name in names
        if there.get(name) != here.get(name)
    ]


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    found = differences({name: there.get(name) for name in here}, here)
    if found:
        raise OptionError(
            f"{folder} was begun with another configuration, and nothing was changed in it: {'; '.join(found)}. "
            "Take the same options, or another folder"
        )


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)
