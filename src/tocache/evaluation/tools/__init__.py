"""Benchmarks that keep environments of their own: their prompts, their folders, their result files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tocache.errors import UnknownNameError
from tocache.evaluation.tools import geneval, hps, image_reward, vbench
from tocache.evaluation.tools.drawn import Drawn


class Tool(Protocol):
    """One benchmark. All of its functions raise OptionError where a file is not what it should be."""

    NAME: str

    def read_prompts(self, file: Path) -> list[str]:
        """What is to be drawn, in the order of the benchmark's own prompt file."""

    def export(self, drawn: Drawn, folder: Path, prompt_file: Path | None) -> list[str]:
        """Lays out pictures or videos in `folder` as the benchmark reads them, and says what to do next, in lines."""

    def read_results(self, path: Path) -> dict[str, Any]:
        """What its result file says, as JSON values: `score`, what it is made of, an interval where there is one."""


TOOLS: Mapping[str, Tool] = {
    "vbench": vbench,
    "geneval": geneval,
    "image-reward": image_reward,
    "hps": hps,
}


def tool(name: str) -> Tool:
    """Raises UnknownNameError where there is no such tool."""
    if name not in TOOLS:
        raise UnknownNameError.of("tool", name, TOOLS)
    return TOOLS[name]
