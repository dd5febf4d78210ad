"""torch.compile together with the cache: what is drawn stays right, or an error says why not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tocache

from .pipelines import class_pipe, draw_class

pytestmark = [
    pytest.mark.slow,
    # Dynamo's own imports, and its notes that it gave up on a function
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch._dynamo"),
]


@pytest.fixture(autouse=True)
def forget() -> Any:
    """Compiles anew in each test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(pipe: Any, how: str) -> None:
    if how == "in place":
        pipe.transformer.compile(backend="eager")
    else:
        for block in pipe.transformer.transformer_blocks:
            block.compile(backend="eager")


@pytest.mark.parametrize("how", ["in place", "blocks"])
@pytest.mark.parametrize("before", [True, False], ids=["before enabling", "after enabling"])
def test_a_compiled_transformer_draws_what_it_draws_in_eager_mode(how: str, before: bool) -> None:
    pipe = class_pipe()
    tocache.enable(pipe, tocache.FORA(3))
    cached = draw_class(pipe)
    if before:
        tocache.disable(pipe)
    compiled(pipe, how)
    tocache.enable(pipe, tocache.FORA(3))
    torch.testing.assert_close(draw_class(pipe), cached, rtol=1e-4, atol=1e-4)
    assert tocache.report(pipe).steps_by_kind["reuse"] > 0


def test_the_wrapper_of_torch_compile_is_refused_and_the_other_way_named() -> None:
    pipe = class_pipe()
    plain = pipe.transformer
    pipe.transformer = torch.compile(plain, backend="eager")
    with pytest.raises(tocache.UnsupportedModelError, match=r"in place instead: pipe\.transformer\.compile\(\)"):
        tocache.enable(pipe, tocache.FORA(3))
    pipe.transformer = plain
    tocache.enable(pipe, tocache.FORA(3))
    assert draw_class(pipe).isfinite().all()
