"""Published tables of ToCa as commands: what to draw, what to compare it with, and what is known of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tocache.errors import UnknownNameError
from tocache.evaluation.papers.base import Missing, Need, Paper, Row
from tocache.evaluation.papers.dit import DIT
from tocache.evaluation.papers.flux import FLUX
from tocache.evaluation.papers.opensora import OPENSORA
from tocache.evaluation.papers.pixart import PIXART

__all__ = ["PAPERS", "Missing", "Need", "Paper", "Row", "check_paper", "paper_named"]

PAPERS: Mapping[str, Paper] = {paper.name: paper for paper in (PIXART, DIT, OPENSORA, FLUX)}


def paper_named(name: str) -> Paper:
    """Raises UnknownNameError where there is no such table."""
    if name not in PAPERS:
        raise UnknownNameError.of("paper", name, PAPERS)
    return PAPERS[name]


def check_paper(paper: Paper, data: Path) -> list[Missing]:
    """What of `paper`'s needs is not here; its captions and references are looked for in the folder `data`."""
    found = ((need, need.why_missing(data)) for need in paper.needs)
    return [Missing(need.what, why) for need, why in found if why is not None]
