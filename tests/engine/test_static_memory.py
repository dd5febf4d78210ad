"""The cache under CUDA graphs, as far as a CPU can tell: addresses that stay, and nothing written over."""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tocache
from tocache.engine.engine import Engine
from tocache.engine.graphs import Compiled
from tocache.session import required

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Dynamo's own imports

STEPS = 12
RECORDED = {"mode": "reduce-overhead"}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def engine_of(model: Any) -> Engine:
    return required(model).engine


def addresses(tiny: Any, model: Any, found: dict[Any, set[int]] | None = None) -> dict[Any, set[int]]:
    """A run, and by place in the cache where its tensors were at the ends of steps."""
    found = defaultdict(set) if found is None else found

    def look(_: Any) -> None:
        for i, features in enumerate(engine_of(model).run._caches[0].kept):
            found["feature", i] |= {feature.packed.data.data_ptr() for feature in features}
        for i, scores in enumerate(engine_of(model).run._caches[0].maps):
            for name, score in scores.items():
                found["map", i, name].add(score.data_ptr())

    with tocache.watch(model, look):
        tiny.run(model, STEPS)
    return {place: where for place, where in found.items() if where}


def test_reused_features_lie_where_they_lay_in_every_step_and_run(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    tocache.compile(model, disable=True, **RECORDED)
    found = addresses(tiny, model)
    held = engine_of(model).graphs.memory.nbytes
    assert held >= tocache.report(model).cache_bytes_peak
    again = addresses(tiny, model, defaultdict(set, found))
    assert again.keys() == found.keys()
    assert {len(where) for where in again.values()} == {1}
    assert engine_of(model).graphs.memory.nbytes == held


@pytest.mark.slow
def test_forecast_features_take_turns_in_as_many_places_as_there_are(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.TaylorSeer(2, order=2))
    tocache.compile(model, disable=True, **RECORDED)
    found = addresses(tiny, model)
    assert {len(where) for where in addresses(tiny, model, defaultdict(set, found)).values()} == {3}


METHODS = {
    "toca": tocache.ToCa(3, 0.3),
    "drift": tocache.ToCa(3, 0.3, scores={"drift": 1.0}),
    "taylorseer": tocache.TaylorSeer(2, order=2),
    "tap": tocache.TAP(3),
}


CASES = [(name, storage) for name in METHODS for storage in ("same", "int8")]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:]]


@pytest.mark.parametrize(("name", "storage"), [CASES[0], *SLOW])
def test_steps_give_what_they_give_without(tiny_of: Any, name: str, storage: str) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, METHODS[name], storage=storage)
    wanted = tiny.run(model, STEPS)
    tocache.compile(model, disable=True, **RECORDED)
    for _ in range(2):
        for one, other in zip(tiny.run(model, STEPS), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert tocache.report(model).cache_bytes_peak == tocache.report(model).cache_bytes_planned


@pytest.mark.slow
def test_two_passes_of_a_step_have_places_of_their_own(tiny_of: Any) -> None:
    tiny = tiny_of("flux")
    model = tiny.build()

    def run() -> list[torch.Tensor]:
        outputs = []
        with tocache.run(model, timesteps=9, cfg="two-pass") as by_hand:
            for step in range(9):
                outputs += [tiny.forward(model, step, who=who) for who in (0, 1)]
                by_hand.step()
        return outputs

    tocache.enable(model, tocache.ToCa(3, 0.3))
    wanted = run()
    tocache.compile(model, disable=True, **RECORDED)
    for one, other in zip(run(), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_buffers_are_marked_and_other_buffers_compile_nothing(tiny_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo gets marked inputs here; what CUDA graphs make of the mark is torch's affair."""
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.TaylorSeer(3, order=1))
    wanted = tiny.run(model, STEPS)
    monkeypatch.setattr(Compiled, "records", True)
    tocache.compile(model, backend="eager")
    tiny.run(model, STEPS)
    memory = engine_of(model).graphs.memory
    marks = {buffer._dynamo_static_input_type for buffers in memory._buffers.values() for buffer in buffers}
    assert marks == {"unguarded"}
    with torch._dynamo.config.patch(error_on_recompile=True):
        for one, other in zip(tiny.run(model, STEPS), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_mark_is_the_one_that_torch_sets() -> None:
    tensor = torch.zeros(1)
    torch._dynamo.mark_static_address(tensor, guard=False)
    assert vars(tensor) == {"_dynamo_static_input_type": "unguarded"}


@pytest.mark.parametrize(
    ("options", "records"),
    [
        ({}, False),
        ({"mode": "reduce-overhead"}, True),
        ({"mode": "max-autotune"}, True),
        ({"mode": "max-autotune-no-cudagraphs"}, False),
        ({"options": {"triton.cudagraphs": True}}, True),
        ({"options": {"triton.cudagraphs": False}}, False),
        ({"options": {"max_autotune": True}}, False),
    ],
)
def test_options_that_record_graphs_are_known(options: dict[str, Any], records: bool) -> None:
    assert Compiled(options=options).records == records


def test_disable_frees_the_buffers(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3))
    tocache.compile(model, disable=True, **RECORDED)
    tiny.run(model, STEPS)
    memory = engine_of(model).graphs.memory
    buffers = [weakref.ref(buffer) for buffers in memory._buffers.values() for buffer in buffers]
    del memory
    tocache.disable(model)
    gc.collect()
    assert buffers
    assert not any(reference() is not None for reference in buffers)


def test_a_run_in_inference_mode_and_one_outside_of_it_share_their_memory(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    tocache.compile(model, disable=True, **RECORDED)
    with torch.inference_mode():
        first = tiny.run(model, STEPS)
    held = engine_of(model).graphs.memory.nbytes
    assert all(torch.equal(one, other) for one, other in zip(tiny.run(model, STEPS), first, strict=True))
    assert engine_of(model).graphs.memory.nbytes == held
