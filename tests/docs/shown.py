"""What the documentation shows: its pages, their fenced blocks, and the folder in which these can run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tocache.demo.random_pipelines import random_class_pipeline, random_text_pipeline
from tocache.demo.random_video import random_video_pipeline

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tocache"
DOCS = ROOT / "docs"
PAGES = (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.rglob("*.md")))
FENCE = re.compile(r'^( *)```(\w*)(?: title="([^"\n]*)")?([^\n]*)\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
NOT_RUN = "Not run by the tests: "

# Models of the pages by the miniature that stands in their place: a folder is taken before the hub is asked.
MODELS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("PixArt-alpha/PixArt-XL-2-256x256", "PixArt-alpha/PixArt-XL-2-512x512", "my-model"), random_text_pipeline
    ),
    # FLUX's draws large pictures where no size is given, and no command has one; a folder is all that is asked for
    "black-forest-labs/FLUX.1-dev": random_text_pipeline,
    "facebook/DiT-XL-2-256": random_class_pipeline,
    "open-sora": random_video_pipeline,
    "runs/video/export": random_video_pipeline,
}
SIZES: dict[Callable[..., Any], dict[str, int]] = {
    random_text_pipeline: {"depth": 4},
    random_class_pipeline: {"depth": 4, "sample_size": 16},
    random_video_pipeline: {"depth": 2},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its first line of code."""

    page: Path
    language: str
    title: str
    more: str  # what else the fence says
    line: int
    code: str

    @property
    def runs(self) -> bool:
        return not self.title.startswith(NOT_RUN)


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in its order: all of them, or those of some languages."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, m[2], m[3] or "", m[4].strip(), text.count("\n", 0, m.start()) + 2, m[5])
        for m in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def execute(block: Block, names: dict[str, Any], code: str | None = None) -> None:
    """Runs a block of Python as if it stood at its line of the page, so that a traceback points there."""
    text = block.code if code is None else code
    exec(compile("\n" * (block.line - 1) + text, str(block.page), "exec", dont_inherit=True), names)


def write_models(folder: Path) -> None:
    """The models that pages name, as folders in diffusers' format with few random weights."""
    for name, make in MODELS.items():
        pipe = make(**SIZES[make])
        if make is random_video_pipeline:  # what is drawn where a command names no size
            pipe.transformer.register_to_config(sample_size=8, sample_frames=17, sample_fps=24)
        pipe.save_pretrained(folder / name)


def write_files(folder: Path, page: Path) -> None:
    """The files that a page takes for granted: prompts, real pictures, ADM's reference, a result of GenEval."""
    prompts = ("a red circle", "a blue square above a circle")
    for name in ("prompts.txt", "captions.txt"):
        (folder / name).write_text("\n".join(prompts) + "\n", encoding="utf-8")
    rows = [{"tag": "single_object", "prompt": prompt} for prompt in prompts]
    for name, more in (("evaluation_metadata.jsonl", {}), ("geneval.jsonl", {"correct": True})):
        (folder / name).write_text("".join(json.dumps(row | more) + "\n" for row in rows), encoding="utf-8")
    pictures = np.random.default_rng(0).integers(0, 255, (6, 128, 128, 3), dtype=np.uint8)
    # the README evaluates what no command of it has drawn
    for name in ("real", *(("cached", "plain") if page.name == "README.md" else ())):
        (folder / name).mkdir()
        for i, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    np.savez(folder / "VIRTUAL_imagenet256_labeled.npz", arr_0=pictures)
    np.savez(folder / "real.npz", arr_0=pictures)
