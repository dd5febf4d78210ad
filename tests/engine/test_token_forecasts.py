"""Each token of a running model gets the forecast that the first block finds best for it."""

from __future__ import annotations

import pytest
import torch

import tocache
from tocache.features import Feature, Forecast, extrapolate
from tocache.methods import TAP

INTERVAL, WARMUP, STEPS = 3, 2, 9
FULL = (0, 1, 4, 7)


def residuals(tiny, method) -> tuple[list[dict[str, torch.Tensor]], list[torch.Tensor]]:
    """What the two regions of a stack add in each step, as the model gets it, and the outputs."""
    model = tiny.build()
    tocache.enable(model, method)
    outputs, seen = [], []

    def listen(step: int, number: int, site: str, value: torch.Tensor) -> torch.Tensor:
        if "[" in site:
            seen[-1][site] = value.clone()
        return value

    with tocache.tap(model, listen), tocache.run(model, timesteps=STEPS, cfg=None) as run:
        for step in range(STEPS):
            seen.append({})
            outputs.append(tiny.forward(model, step))
            run.step()
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned
    return seen, outputs


@pytest.mark.parametrize("family", ["dit", "pixart", "flux"])
@pytest.mark.parametrize("basis", ["taylor", "polynomial"])
def test_each_token_gets_the_order_that_forecasts_its_first_block_best(tiny_of, family, basis):
    """Against the rule itself, worked out on what the regions added in the full steps before."""
    seen, _ = residuals(tiny_of(family), TAP(INTERVAL, warmup=WARMUP, basis=basis))
    clock = tuple(map(float, range(STEPS)))
    orders = set()
    for probe in (name for name in seen[0] if "[0:1]" in name):
        rest = next(name for name in seen[0] if name.startswith(probe.split("[")[0] + "[1:"))
        for step in (s for s in range(STEPS) if s not in FULL):
            past = [s for s in FULL if s < step][-3:]
            first, others = ([Feature(seen[s][name], s) for s in past] for name in (probe, rest))
            hows = [Forecast(basis, order, clock) for order in range(3)]
            errors = torch.stack([(extrapolate(first, step, how) - seen[step][probe]).norm(dim=-1) for how in hows])
            best = errors.argmin(dim=0)  # (rows, tokens)
            forecasts = torch.stack([extrapolate(others, step, how) for how in hows])
            expected = torch.take_along_dim(forecasts, best[None, :, :, None], dim=0)[0]
            torch.testing.assert_close(seen[step][rest], expected)
            orders |= set(best.flatten().tolist())
    assert len(orders) > 1  # or any one of them would have passed


def test_the_first_block_is_that_of_the_model_in_every_step(tiny_of):
    """Nothing is served before it, so that it is bit-equal as long as its input is."""
    tiny = tiny_of("dit")
    computed, _ = residuals(tiny, TAP(interval=1))
    served, _ = residuals(tiny, TAP(INTERVAL))
    for step in range(STEPS):
        name = next(name for name in served[step] if "[0:1]" in name)
        torch.testing.assert_close(served[step][name], computed[step][name], rtol=0, atol=0)


def test_interval_1_is_the_model_itself(tiny_of):
    tiny = tiny_of("dit")
    (_, outputs), (_, plain) = (residuals(tiny, method) for method in (TAP(interval=1), tocache.Uncached()))
    assert all(torch.equal(one, other) for one, other in zip(outputs, plain, strict=True))
