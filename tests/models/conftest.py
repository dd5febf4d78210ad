"""The pipelines that every test of the contract runs on."""

from __future__ import annotations

import diffusers
import pytest

from ..conftest import Case
from .miniatures import FAMILIES


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    ignored = [pytest.mark.filterwarnings(f"ignore:{text}") for text in case.ignored]
    return [*ignored, pytest.mark.slow] if case.slow else ignored


PARAMETERS = [pytest.param(case, id=case.name, marks=_marks(case)) for case in FAMILIES]


@pytest.fixture(params=PARAMETERS)
def case(request: pytest.FixtureRequest) -> Case:
    """Every family in turn that this diffusers has."""
    chosen: Case = request.param
    missing = [name for name in chosen.needs if not hasattr(diffusers, name)]
    if missing:
        pytest.skip(f"diffusers {diffusers.__version__} has no {', '.join(missing)}")
    return chosen
