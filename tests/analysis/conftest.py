"""What the studies look at here: pipelines of four families that draw in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tocache.analysis import Subject

from ..conftest import CASES, Case

BY_NAME = {case.name: case for case in CASES}


@cache
def pipeline_of(name: str) -> Any:
    case: Case = BY_NAME[name]
    pipe = case.make()
    pipe.plain_captions = True
    return pipe


@pytest.fixture
def subject_of() -> Callable[..., Subject]:
    """subject_of(family, pictures): its miniature, with so many prompts."""

    def make(name: str = "dit", pictures: int = 1, **options: Any) -> Subject:
        case = BY_NAME[name]
        call = {key: value for key, value in case.call.items() if key != "output_type"}
        options = {"steps": case.steps, "call": call} | options
        return Subject(pipeline_of(name), list(case.prompts[:pictures]), **options)

    return make


@pytest.fixture(params=[case.name for case in CASES if case.name != "opensora"])
def family(request: pytest.FixtureRequest) -> str:
    """The families of pictures in turn."""
    chosen: str = request.param
    return chosen
