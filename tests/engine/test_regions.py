"""Spans of blocks served from a cached residual, against a loop over the blocks written by hand."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

import tocache

STREAMS = {"dit": ["hidden_states"], "pixart": ["hidden_states"], "flux": ["encoder_hidden_states", "hidden_states"]}
REGIONS = {
    "dit": (("transformer_blocks", 1, 2),),
    "pixart": (("transformer_blocks", 0, 3),),
    "flux": (("transformer_blocks", 0, 1), ("single_transformer_blocks", 1, 2)),
}


def before_the_end(model: Any, call: Any) -> torch.Tensor:
    """What `model` hands to its last norm during `call()`."""
    seen = []
    handle = model.norm_out.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    call()
    handle.remove()
    assert len(seen) == 1
    return seen[0]


def reference(tiny, regions, steps: int, full: list[int]) -> list[torch.Tensor]:
    """Runs the blocks one by one; in steps that are not full each region adds its last residual instead."""
    model, names = tiny.build(), STREAMS[tiny.family]
    stacks = ["transformer_blocks"] + ["single_transformer_blocks"] * (tiny.family == "flux")
    residuals: dict[Any, list[torch.Tensor]] = {}
    results = []
    for step in range(steps):
        arguments: dict[str, dict[str, Any]] = {}
        handles = []
        for stack in stacks:
            block = model.get_submodule(stack)[0]

            def keep(module: Any, args: Any, kwargs: Any, stack: str = stack, into: Any = arguments) -> None:
                into[stack] = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)

            handles.append(block.register_forward_pre_hook(keep, with_kwargs=True))
        tiny.forward(model, step)
        for handle in handles:
            handle.remove()
        streams = [arguments[stacks[0]][name] for name in names]
        for stack in stacks:
            for b, block in enumerate(model.get_submodule(stack)):
                begins = [r for r in regions if r[:2] == (stack, b)]
                ends = [r for r in regions if (r[0], r[2]) == (stack, b)]
                inside = [r for r in regions if r[0] == stack and r[1] <= b <= r[2]]
                for region in begins:
                    if step in full:
                        residuals[region] = list(streams)
                if inside and step not in full:
                    for region in ends:
                        streams = [x + r for x, r in zip(streams, residuals[region], strict=True)]
                    continue
                with torch.no_grad():
                    output = block(**arguments[stack] | dict(zip(names, streams, strict=True)))
                streams = list(output) if isinstance(output, tuple) else [output]
                for region in ends:
                    residuals[region] = [y - x for x, y in zip(residuals[region], streams, strict=True)]
        results.append(streams[-1])
    return results


def served(regions, full):
    """A table in which the regions are served in all steps that are not full."""

    def fill(fresh, source, anatomy):
        for stack, first, last in regions:
            i = anatomy.index[f"{stack}[{first}:{last + 1}]"]
            fresh[[s for s in range(len(fresh)) if s not in full], :, i] = 0

    return fill


def test_a_served_region_adds_its_last_residual(tiny, table):
    regions, full = REGIONS[tiny.family], [0, 1, 4]
    expected = reference(tiny, regions, 9, full)
    model = tiny.build()
    tocache.enable(model, table(served(regions, full), regions=regions))
    with tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            got = before_the_end(model, lambda step=step: tiny.forward(model, step))
            torch.testing.assert_close(got, expected[step], rtol=1e-5, atol=1e-5)
            run.step()
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.cache_bytes_peak == report.cache_bytes_planned > 0
    assert report.flops_computed == report.flops_planned < report.flops_uncached
    tocache.disable(model)
    plain = before_the_end(model, lambda: tiny.forward(model, 8))
    assert not torch.allclose(plain, expected[8], rtol=1e-3, atol=1e-3)


def test_blocks_of_a_served_region_do_not_run(tiny, table):
    stack, first, last = REGIONS[tiny.family][0]
    model, calls = tiny.build(), []
    for b, block in enumerate(model.get_submodule(stack)):
        attention = block.attn1 if hasattr(block, "attn1") else block.attn
        attention.register_forward_hook(lambda *_, b=b: calls.append(b))
    tocache.enable(model, table(served([(stack, first, last)], [0]), regions=((stack, first, last),)))
    tiny.run(model)
    depth = len(model.get_submodule(stack))
    assert calls == [*range(depth), *[b for b in range(depth) if not first <= b <= last] * 8]


def test_sites_inside_a_computed_region_keep_their_own_amounts(tiny_of, table):
    tiny, region = tiny_of("dit"), ("transformer_blocks", 0, 3)

    def fill(fresh, source, anatomy):
        fresh[1, 0, 1:] = 0  # reused inside a region that is computed
        fresh[2, 0, 0] = 0

    def fill_inside_only(fresh, source, anatomy):
        fresh[1] = 0

    model, other = tiny.build(), tiny.build()
    tocache.enable(model, table(fill, regions=(region,)))
    tocache.enable(other, table(fill_inside_only))
    one, two = tiny.run(model), tiny.run(other)
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[2], two[2])
    assert tocache.report(model).overruled == 0


def test_a_region_that_changes_between_runs_is_wired_anew(tiny_of, table):
    """The regions of a plan may depend on the number of steps."""
    tiny = tiny_of("dit")
    wide, narrow = ("transformer_blocks", 0, 3), ("transformer_blocks", 1, 2)

    @dataclass(frozen=True)
    class ByLength(tocache.Method):
        name: ClassVar[str] = "by-length"

        def plan(self, anatomies, steps):
            region = wide if steps == 10 else narrow
            return table(served([region], [0]), regions=(region,)).plan(anatomies, steps)

    model = tiny.build()
    tocache.enable(model, ByLength())
    tiny.run(model, 10)
    again = tiny.run(model)
    assert tocache.report(model).overruled == 0
    fresh = tiny.build()
    tocache.enable(fresh, table(served([narrow], [0]), regions=(narrow,)))
    for got, expected in zip(again, tiny.run(fresh), strict=True):
        assert torch.equal(got, expected)


def test_a_region_goes_when_the_next_plan_has_none(tiny_of, table):
    tiny, region = tiny_of("flux"), ("single_transformer_blocks", 0, 1)
    model = tiny.build()
    plain = [tiny.forward(model, step) for step in range(9)]
    tocache.enable(model, table(served([region], [0]), regions=(region,)))
    assert not torch.equal(tiny.run(model)[2], plain[2])
    tocache.enable(model, tocache.Uncached())
    assert all(torch.equal(got, x) for got, x in zip(tiny.run(model), plain, strict=True))
