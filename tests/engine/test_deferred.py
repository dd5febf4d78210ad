"""Norm, modulation, gate and residual in kernels: the same pictures, and a tensor for whoever asks for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tocache
from tocache.engine import choose, deferred
from tocache.engine.deferred import ChosenRows, Gated, Given, settled
from tocache.kernels.backends import has_triton, runs_triton
from tocache.plan.anatomy import Pass
from tocache.session import required

from ..workflows.pipelines import PARTIAL, class_pipe, draw_class, draw_flux, draw_text, flux_pipe, text_pipe

RUNS = has_triton() and runs_triton(torch.device("cpu"))
PIPES = {"dit": (class_pipe, draw_class), "pixart": (text_pipe, draw_text), "flux": (flux_pipe, draw_flux)}
METHODS = [PARTIAL, tocache.FORA(3), tocache.ToCa(3, 0.3, share="step"), tocache.TaylorSeer(3, order=1)]


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Takes Triton's kernels from when it is called on, and returns how often each operation was done."""

    def take() -> Counter[str]:
        done: Counter[str] = Counter()

        def counted(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                done[function.__name__] += 1
                return function(*args, **kwargs)

            return call

        monkeypatch.setenv("TOCACHE_KERNELS", "triton")
        for name in ("gated_residual", "modulated_rows", "gather_rows", "scatter_rows"):
            monkeypatch.setattr(deferred, name, counted(getattr(deferred, name)))
        monkeypatch.setattr(choose, "spread_scores", counted(choose.spread_scores))
        return done

    if not RUNS:
        pytest.skip("Triton cannot run here")
    return take


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("family", PIPES)
def test_kernels_draw_what_torch_draws(family: str, method: tocache.Method, triton: Callable[[], Counter[str]]) -> None:
    make, draw = PIPES[family]
    pipe = make()
    tocache.enable(pipe, method)
    wanted = draw(pipe)
    plain = tocache.report(pipe)
    done = triton()
    torch.testing.assert_close(draw(pipe), wanted, rtol=1e-3, atol=1e-4)
    report = tocache.report(pipe)
    assert (report.flops_computed, report.cache_bytes_peak) == (plain.flops_computed, plain.cache_bytes_planned)
    assert done["gated_residual"] > 0
    chosen = report.steps_by_kind.get("partial", 0) > 0
    assert (done["modulated_rows"] > 0) == chosen
    assert (done["spread_scores"] > 0) == (chosen and family != "flux")
    assert done["gather_rows"] == done["scatter_rows"] == 0  # nothing fell back


def test_eight_bits_and_listeners_get_tensors(triton: Callable[[], Counter[str]]) -> None:
    pipe = class_pipe()
    tocache.enable(pipe, PARTIAL, storage="int8")
    wanted = draw_class(pipe)
    done = triton()
    torch.testing.assert_close(draw_class(pipe), wanted, rtol=1e-3, atol=1e-3)
    assert done["gated_residual"] == 0
    tocache.enable(pipe, PARTIAL)
    seen: list[Any] = []
    with tocache.tap(pipe, lambda step, number, site, value: seen.append(type(value))):
        draw_class(pipe)
    assert set(seen) == {torch.Tensor}
    assert done["gated_residual"] == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Dynamo's own imports
def test_a_trace_sees_each_operation(triton: Callable[[], Counter[str]]) -> None:
    pipe = class_pipe()
    tocache.enable(pipe, PARTIAL)
    wanted = draw_class(pipe)
    done = triton()
    tocache.compile(pipe, disable=True)
    torch.testing.assert_close(draw_class(pipe), wanted, rtol=1e-3, atol=1e-4)
    assert done["gated_residual"] == done["modulated_rows"] == 0
    assert tocache.report(pipe).graphs


def stream() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, factor, shift = (torch.randn(2, n, 8, generator=draw) for n in (6, 1, 1))
    return x, torch.tensor([[4, 0, 2], [1, 5, 3]]), factor, shift


def gathered() -> torch.Tensor:
    x, index, _, _ = stream()
    return torch.stack([row[chosen] for row, chosen in zip(x, index, strict=True)])


ON_ROWS: list[Callable[[Any], Any]] = [
    lambda rows: rows * 2 + 1,
    lambda rows: 2 * rows - rows,
    lambda rows: -rows / 3,
    lambda rows: 1 - rows,
    lambda rows: rows[:, :2],
    lambda rows: rows.float().pow(2).mean(-1, keepdim=True),
    lambda rows: torch.cat([rows, rows], dim=1),
    lambda rows: F.layer_norm(rows, (8,), weight=torch.arange(8.0)),
    lambda rows: F.layer_norm(F.layer_norm(rows, (8,)), (8,)),
    lambda rows: F.layer_norm(rows, (3, 8)),
    lambda rows: F.layer_norm(rows, (8,)) + 1,
    lambda rows: F.layer_norm(rows, (8,)) * stream()[2] * stream()[2],
    lambda rows: F.layer_norm(rows, (8,)) * torch.ones(2, 3, 8) + stream()[3],
    lambda rows: stream()[3] + stream()[2] * F.layer_norm(rows, (8,), eps=1e-3),
    lambda rows: torch.tensor(rows.shape),
    lambda rows: torch.tensor(len(rows)),
]


@pytest.mark.parametrize("number", range(len(ON_ROWS)))
def test_chosen_rows_are_a_tensor_to_whoever_does_something_else(number: int) -> None:
    x, index, _, _ = stream()
    with torch.no_grad():
        found = settled(ON_ROWS[number](ChosenRows(x, index)))
        torch.testing.assert_close(found, ON_ROWS[number](gathered()), rtol=1e-5, atol=1e-6)


ON_GIVEN: list[Callable[[Any], Any]] = [
    lambda given: given + stream()[0],
    lambda given: stream()[0] + stream()[2] * given,
    lambda given: given * stream()[2] + stream()[0],
    lambda given: torch.add(stream()[0], torch.mul(given, stream()[2])),
    lambda given: stream()[0] + 0.5 * given,
    lambda given: stream()[0].double() + given,
    lambda given: stream()[0] - given,
    lambda given: stream()[2] * given * stream()[2],
    lambda given: (given * stream()[2]).clone() + (given * stream()[2]),
    lambda given: stream()[0].clone().add_(given),
    lambda given: torch.stack([given, given]),
    lambda given: given.transpose(1, 2),
]


@pytest.mark.parametrize("number", range(len(ON_GIVEN)))
def test_what_a_site_gives_is_a_tensor_to_whoever_does_something_else(number: int) -> None:
    x, index, _, _ = stream()
    feature, rows = x.flip(1), gathered() * 3
    expected = feature.clone()
    for b in range(2):
        expected[b, index[b]] = rows[b]
    kept = feature.clone()
    with torch.no_grad():
        found = settled(ON_GIVEN[number](Given(kept, rows, index)))
        torch.testing.assert_close(found, ON_GIVEN[number](expected))
    assert torch.equal(kept, expected)


def test_a_gate_that_was_noted_is_used_once_and_again() -> None:
    x, index, gate, _ = stream()
    given = Given(x.flip(1), gathered(), index)
    with torch.no_grad():
        gated = given * gate
        assert isinstance(gated, Gated)
        one, other = x + gated, x + gated
    torch.testing.assert_close(one, other)


def test_what_nobody_takes_is_in_the_cache_all_the_same(
    tiny_of: Any, table: Any, by_kind: Any, triton: Callable[[], Counter[str]]
) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    triton()
    tocache.enable(model, table(by_kind(mlp=3), tocache.Policy(scores={"norm": 1.0})))
    with torch.no_grad(), tocache.run(model, timesteps=9, cfg=None) as run:
        tiny.forward(model, 0)
        run.step()
        now = required(model).engine.run
        assert now.enter(Pass(2, {"image": 16}, (4, 4), itemsize=4), lambda: (4, 4), now._servers[0])
        site = next(i for i, amount in enumerate(now.now.amounts) if amount > 0)
        rows = torch.full((2, 3, 16), 7.0)
        given = now.now.blend(site, rows, torch.tensor([[1, 2, 3], [4, 5, 6]]))
        assert isinstance(given, Given)
        kept = now.now.cache.newest(site)
        assert not (kept == 7).any()
        now.leave(None)
    assert (kept[0, 1:4] == 7).all()
    assert (kept == 7).sum() == rows.numel()
