"""Steps do not make the host wait for the device: neither on a GPU, nor by the operations that would on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import tocache
from tocache.kernels import asking

from ..conftest import CASES
from ..models.miniatures.sd3 import CASES as SD3

STEPS = 9
METHODS = {
    "toca": tocache.ToCa(3, 0.3),
    "spread": tocache.ToCa(3, 0.3, scores={"norm": 1.0}, share="step"),
    "random": tocache.ToCa(3, 0.3, scores={"random": 1.0}),
    "drift": tocache.ToCa(3, 0.3, scores={"drift": 1.0}),
    "sampled": tocache.ToCa(3, 0.3, scores={"influence": 1.0}, queries=0.25),
    "similarity": tocache.ToCa(3, 0.3, scores={"similarity": 1.0}),
    "fora": tocache.FORA(3),
    "taylorseer": tocache.TaylorSeer(3, order=1),
    "delta-dit": tocache.DeltaDiT(),
    "tap": tocache.TAP(3),
}
WAITING = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "lift_fresh")


class Waiting(AssertionError):
    """An operation for which the host would have to wait."""


class NoOperation(TorchDispatchMode):
    """Raises where an operation needs numbers on the host, or takes numbers from there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(each, torch.Tensor) and each.dtype in (torch.bool, torch.uint8)
            for each in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        if name in WAITING or masks:
            raise Waiting(f"{func} with {[type(arg).__name__ for arg in args]}")
        return func(*args, **(kwargs or {}))


class NoMethod(TorchFunctionMode):
    """Raises where a tensor is copied to the host by a method that is no operation on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__):
            raise Waiting(f"{func.__name__} of a tensor")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Under it, what would make the host wait for a GPU raises on any device."""
    with NoOperation(), NoMethod():
        yield


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine asks this machine's CPU for no more than it would ask a GPU for."""
    monkeypatch.setattr(asking, "ASKED", ())


def run(tiny: Any, model: Any, device: str, guard: Callable[[], AbstractContextManager[Any]]) -> None:
    """A run by hand in which all steps after the first are made under `guard`."""
    inputs = [
        {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in given.items()}
        for given in map(tiny.inputs, range(STEPS))
    ]
    with torch.no_grad(), tocache.run(model, timesteps=STEPS, cfg=None) as by_hand:
        for step in range(STEPS):
            with guard() if step else nullcontext():
                model(**inputs[step])
                by_hand.step()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", METHODS)
def test_no_operation_of_a_step_needs_numbers_on_the_host(tiny: Any, name: str) -> None:
    model = tiny.build()
    tocache.enable(model, METHODS[name])
    run(tiny, model, "cpu", no_waiting)
    kinds = tocache.report(model).steps_by_kind
    assert len(kinds) > 1
    assert sum(kinds.values()) == STEPS


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("storage", ["int8", "fp8"])
def test_neither_does_packing(tiny_of: Any, storage: str) -> None:
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, METHODS["toca"], storage=storage)
    run(tiny, model, "cpu", no_waiting)


@contextmanager
def errors_of_cuda() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: CUDA tells by itself who waits for it")
@pytest.mark.parametrize("name", METHODS)
def test_cuda_sees_nobody_wait(tiny: Any, name: str) -> None:
    model = tiny.build().to("cuda")
    tocache.enable(model, METHODS[name])
    run(tiny, model, "cuda", errors_of_cuda)
    assert len(tocache.report(model).steps_by_kind) > 1


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("case", [case for case in (*CASES, *SD3) if case.name in ("dit", "sd3")], ids=lambda c: c.name)
def test_modulation_ahead_is_known_without_looking(case: Any) -> None:
    """By where times and conditions lie: pipelines hand on the very entries of their schedule."""
    pipe = case.make()
    tocache.enable(pipe, METHODS["toca"], modulate_ahead=True)
    case.draw(pipe)
    assert tocache.report(pipe).modulated == case.steps


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_time_that_was_computed_is_not_known_without_looking() -> None:
    case = next(case for case in CASES if case.name == "flux")
    pipe = case.make()
    plain = case.draw(pipe)
    tocache.enable(pipe, tocache.Uncached(), modulate_ahead=True)
    with pytest.warns(tocache.TocacheWarning, match="not ahead: the model's time is not known"):
        assert torch.equal(case.draw(pipe), plain)
    assert tocache.report(pipe).modulated == 0


MISTAKES: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x.sum().item(),
    lambda x: float(x[0]),
    lambda x: 1 if x[0] > 0 else 0,
    lambda x: int(x.argmax()),
    lambda x: x[x > 0],
    lambda x: x.masked_select(x > 0),
    lambda x: (x > 0).nonzero(),
    lambda x: x.__setitem__(x > 0, x[:2] * 0),
    lambda x: torch.equal(x, x + 1),
    lambda x: x.unique(),
    lambda x: x.tolist(),
    lambda x: x.numpy(),
    lambda x: x.cpu(),
    lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_the_mistakes_it_is_for_are_seen(number: int) -> None:
    x = torch.tensor([1.0, -1.0, 2.0])
    with no_waiting(), pytest.raises(Waiting):
        MISTAKES[number](x)


def test_what_does_not_wait_is_let_through() -> None:
    x = torch.arange(6.0).view(2, 3)
    index = torch.tensor([[0, 1], [2, 0]])
    with no_waiting():
        x.masked_fill(x > 0, 0.0)
        torch.where(x > 0, x, -x)
        x[torch.arange(2).unsqueeze(1), index] = x.gather(1, index) * 2
        x.argsort(dim=1, stable=True)
