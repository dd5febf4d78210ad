"""HPS v2 (Wu et al., arXiv 2306.09341): a CLIP that was taught what people prefer.

Its benchmark has one JSON list of prompts per style (anime, concept-art, paintings, photo), and one folder per style
with one picture per prompt, `00000.jpg` being of the first. Pictures stay the PNG files that they are, under that
name: Pillow, with which HPS opens them, goes by the content.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tocache.errors import OptionError
from tocache.evaluation.sets.pictures import SUFFIXES
from tocache.evaluation.tools.drawn import Drawn, new_folder, read_json, write

NAME = "HPS v2"

OWN = "prompts"
"""The style that pictures have where no benchmark's prompts are given."""

_MODEL = "tocache"
_LINE = re.compile(r"^\S+\s+(?P<style>\S+)\s+(?P<score>-?\d+\.\d+)(?:\s+(?P<deviation>\d+\.\d+))?\s*$")


def read_prompts(file: Path) -> list[str]:
    return [prompt for prompts in _styles(file).values() for prompt in prompts]


def export(drawn: Drawn, folder: Path, prompt_file: Path | None) -> list[str]:
    styles = {OWN: list(drawn.prompts)} if prompt_file is None else _styles(prompt_file)
    places: dict[str, list[tuple[str, int]]] = {}
    for style, prompts in styles.items():
        for i, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append((style, i))
    for prompt in drawn.prompts:
        if prompt not in places:
            raise OptionError(f"{prompt_file}: has no prompt {prompt!r}")
    new_folder(folder)
    left, written = 0, 0
    for item in drawn.items():
        if item.suffix not in SUFFIXES:
            raise OptionError(f"HPS reads pictures; {drawn.folder} holds {item.suffix}")
        if item.number >= len(places[item.prompt]):
            left += 1  # HPS takes one picture per prompt
            continue
        style, i = places[item.prompt][item.number]
        write(folder / "images" / _MODEL / style / f"{i:05d}.jpg", item.data)
        written += 1
    for style, prompts in styles.items():
        write(folder / "prompts" / f"{style}.json", json.dumps(prompts, indent=1, ensure_ascii=False) + "\n")
    lines = [
        "where hpsv2 is installed, in its checkout's folder hpsv2:",
        f'  python evaluation.py --data-type benchmark --data-path "{folder}/prompts" '
        f'--image-path "{folder}/images/{_MODEL}" | tee hps.txt',
        "then here:",
        "  tocache evaluate --import hps=hps.txt -o REPORT",
    ]
    missing = sum(map(len, styles.values())) - written
    if missing or left:
        lines.insert(0, f"{missing} prompts have no picture; {left} pictures are more than one of their prompt")
    return lines


def read_results(path: Path) -> dict[str, Any]:
    """What its evaluation printed, saved as a text file: a line per style, and one for the average."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read: {error}") from error
    _, _, table = text.rpartition("benchmark score")
    found = {m["style"]: float(m["score"]) for line in table.splitlines() if (m := _LINE.match(line.strip()))}
    score = found.pop("Average", None)
    if score is None or not found:
        raise OptionError(f"{path}: not what HPS v2's evaluation printed: no line of a style, or none with Average")
    return {"score": score, "styles": found}


def _styles(file: Path) -> dict[str, list[str]]:
    """Prompts by style: a file is one style, a folder has several."""
    files = sorted(file.glob("*.json")) if file.is_dir() else [file]
    styles: dict[str, list[str]] = {}
    for one in files:
        prompts = read_json(one)
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts) or not prompts:
            raise OptionError(f"{one}: not HPS's prompts; allowed: a list of texts")
        styles[one.stem] = prompts
    if not styles:
        raise OptionError(f"{file}: has no .json files")
    return styles
