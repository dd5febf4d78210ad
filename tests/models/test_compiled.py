"""Compiled steps of whole pipelines draw what plain steps draw; `tests/engine/test_graphs.py` has the rest.

Three families, or all of them where EVERY_FAMILY=1 is set, which takes some ten minutes more.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import pytest
import torch

import tocache

from ..conftest import Case
from .conftest import PARAMETERS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Dynamo's own imports
]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


FEW = ("wan", "sd3", "hunyuan-image")
CHOSEN = [each for each in PARAMETERS if os.environ.get("EVERY_FAMILY") or each.id in FEW]
PLAIN = (
    "hidream",
    "hunyuan-framepack",
    "hunyuan-image",
    "hunyuan-video",
    "hunyuan-video-1.5",
    "lumina2",
    "mochi",
    "omnigen",
)
"""Families whose transformers read numbers off their masks or positions in every forward: no graph can hold that."""


@pytest.mark.parametrize("case", CHOSEN, indirect=True)
def test_compiled_steps_draw_what_plain_ones_do(case: Case) -> None:
    pipe = case.make()
    tocache.enable(pipe, tocache.ToCa(4, 0.3))
    wanted = case.draw(pipe)
    tocache.compile(pipe, disable=True)  # graphs that are traced and run as they are
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", tocache.TocacheWarning)
        found = case.draw(pipe)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    report = tocache.report(pipe)
    refused = [str(each.message) for each in told if "not compiled: " in str(each.message)]
    assert report.overruled == 0
    if case.name in PLAIN:
        assert len(refused) == 1
        return
    assert refused == []
    assert report.graphs is not None
    assert report.graphs > 1
