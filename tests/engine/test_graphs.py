"""Compiled steps draw what steps without a graph draw, in a bounded number of graphs, and stay true to the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch

import tocache
from tocache.engine.engine import Engine
from tocache.session import required

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Dynamo's own imports

METHODS = {
    "fora": tocache.FORA(3),
    "toca": tocache.ToCa(3, 0.3),
    "random": tocache.ToCa(3, 0.3, scores={"random": 1.0}),
    "sampled": tocache.ToCa(3, 0.3, ratio="constant", scores={"influence": 1.0, "random": 0.1}, queries=0.25),
    "drift": tocache.ToCa(3, 0.3, scores={"drift": 1.0}),
    "newton": tocache.Newton(3, order=2),
    "freqca": tocache.FreqCa(3),
    "tap": tocache.TAP(3),
    "taylorseer": tocache.TaylorSeer(3, order=1),
}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def engine_of(model: Any) -> Engine:
    return required(model).engine


def compiled(model: Any, **options: Any) -> None:
    """With graphs that are traced and run as they are: quick, and what torch.compile would get."""
    tocache.compile(model, **{"disable": True} | options)


def assert_same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


CASES = [
    *(("dit", name) for name in METHODS),
    ("pixart", "toca"),
    ("flux", "toca"),
    ("flux", "sampled"),
    ("flux", "taylorseer"),
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_compiled_steps_give_what_plain_ones_do(tiny_of: Any, family: str, name: str) -> None:
    tiny = tiny_of(family)
    model = tiny.build()
    tocache.enable(model, METHODS[name])
    wanted = tiny.run(model, 10)
    plain = tocache.report(model)
    compiled(model)
    assert_same(tiny.run(model, 10), wanted)
    report = tocache.report(model)
    assert report.graphs is not None
    assert report.graphs > 1
    left = {"seconds_by_kind", "graphs", "plan"}
    assert {k: v for k, v in asdict(report).items() if k not in left} == {
        k: v for k, v in asdict(plain).items() if k not in left
    }


@pytest.mark.slow
def test_a_second_run_makes_no_more_graphs_and_compiles_nothing(tiny_of: Any) -> None:
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, tocache.FORA(4))
    tocache.compile(model, backend="eager")
    first = tiny.run(model, 10)
    count = engine_of(model).graphs.count
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert_same(tiny.run(model, 10), first)
    assert engine_of(model).graphs.count == count


def test_there_are_no_more_graphs_than_allowed(tiny_of: Any) -> None:
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    wanted = tiny.run(model, 10)
    compiled(model, most=2)
    with pytest.warns(tocache.TocacheWarning, match="not compiled: more than 2 kinds of steps"):
        assert_same(tiny.run(model, 10), wanted)
    assert engine_of(model).graphs.count == 2


def test_rounded_amounts_are_the_plans_and_make_fewer_kinds_of_steps(tiny_of: Any, table: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()

    def some_more_each_step(fresh: Any, source: Any, anatomy: Any) -> None:
        for step in range(1, len(fresh)):
            fresh[step, :, [i for i, site in enumerate(anatomy.sites) if site.kind == "mlp"]] = min(1 + step, 16)

    tocache.enable(model, table(some_more_each_step, tocache.Policy(scores={"norm": 1.0})))
    compiled(model)
    tiny.run(model, 9)
    exact = tocache.report(model)
    compiled(model, multiple=8)
    tiny.run(model, 9)
    rounded = tocache.report(model)
    assert rounded.graphs < exact.graphs
    assert set(rounded.plan.fresh[rounded.plan.fresh > 0].tolist()) == {8, 16}
    assert rounded.flops_planned == rounded.flops_computed > exact.flops_computed


@pytest.mark.slow
def test_a_run_of_another_length_or_batch_is_right(tiny_of: Any) -> None:
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    compiled(model)
    tiny.run(model, 10)
    found = tiny.run(model, 12, rows=3)
    tocache.disable(model)
    tocache.enable(model, tocache.ToCa(3, 0.3))
    assert_same(found, tiny.run(model, 12, rows=3))


@pytest.mark.slow
def test_both_guidance_halves_choose_alike_in_a_graph(tiny_of: Any) -> None:
    tiny = tiny_of("pixart")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    wanted = tiny.run(model, 10, cfg="uncond,cond", rows=4)
    compiled(model)
    assert_same(tiny.run(model, 10, cfg="uncond,cond", rows=4), wanted)


@pytest.mark.parametrize("storage", ["int8", "fp8"])
def test_features_in_eight_bits_stay_so_in_a_graph(tiny_of: Any, storage: str) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3), storage=storage)
    wanted = tiny.run(model, 10)
    peak = tocache.report(model).cache_bytes_peak
    compiled(model)
    assert_same(tiny.run(model, 10), wanted)
    assert tocache.report(model).cache_bytes_peak == peak


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.transformer_blocks[0].ff.net[2].weight.mul_(-1),
        lambda model: setattr(model.transformer_blocks[0].ff.net[2], "weight", torch.nn.Parameter(torch.zeros(16, 64))),
        lambda model: setattr(model.transformer_blocks[1], "ff", torch.nn.Identity()),
        lambda model: setattr(model.transformer_blocks[0].attn1, "scale", 1e-3),
    ],
    ids=["in place", "other weight", "other module", "other number"],
)
def test_a_changed_model_gets_graphs_of_its_own(tiny_of: Any, change: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    for block in model.transformer_blocks:
        block.attn1.set_processor(ScaledProcessor())
    tocache.enable(model, tocache.FORA(3))
    compiled(model)
    before = tiny.run(model)
    with torch.no_grad():
        change(model)
    found = tiny.run(model)
    tocache.disable(model)
    tocache.enable(model, tocache.FORA(3))
    assert_same(found, tiny.run(model))
    assert not torch.equal(found[-1], before[-1])


class ScaledProcessor:
    """As diffusers' own, but by the attention's `scale`, which is a plain number."""

    def __call__(self, attn: Any, x: torch.Tensor, **others: Any) -> torch.Tensor:
        query, key, value = (
            part(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (attn.to_q, attn.to_k, attn.to_v)
        )
        y = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        return attn.to_out[0](y.transpose(1, 2).flatten(2))


def test_hooks_keep_a_model_from_becoming_a_graph(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    seen: list[int] = []
    model.transformer_blocks[2].register_forward_hook(lambda *_: seen.append(1))
    tocache.enable(model, tocache.FORA(3))
    compiled(model)
    with pytest.warns(tocache.TocacheWarning, match=r"not compiled: transformer_blocks\.2 has hooks"):
        tiny.run(model, 9)
    assert (len(seen), engine_of(model).graphs.count) == (9, 0)


def test_a_hook_that_comes_later_is_called_and_its_end_brings_the_graphs_back(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3))
    compiled(model)
    tiny.run(model, 9)
    count, seen = engine_of(model).graphs.count, []
    hook = model.transformer_blocks[2].register_forward_hook(lambda *_: seen.append(1))
    with pytest.warns(tocache.TocacheWarning, match=r"transformer_blocks\.2 has hooks"):
        tiny.run(model, 9)
    hook.remove()
    tiny.run(model, 9)
    assert (len(seen), engine_of(model).graphs.count) == (9, count)


def test_another_method_for_a_while_costs_no_graph(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3))
    compiled(model)
    wanted = tiny.run(model, 9)
    made = dict(engine_of(model).graphs.graphs)
    with tocache.enabled(model, tocache.TaylorSeer(3, order=1)):
        tiny.run(model, 9)
    assert_same(tiny.run(model, 9), wanted)
    graphs = engine_of(model).graphs
    assert {key: graphs.graphs[key] for key in made} == made
    assert graphs.count == len(made) < len(graphs.graphs)


def test_what_a_model_decides_by_values_runs_as_it_is_and_leaves_the_run_right(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()

    class Looking(torch.nn.GELU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.sum()) > 1e9 else x

    model.transformer_blocks[1].ff.net[1] = Looking()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    wanted = tiny.run(model, 10)
    compiled(model)
    with pytest.warns(tocache.TocacheWarning, match="not compiled: "):
        assert_same(tiny.run(model, 10), wanted)
    assert engine_of(model).graphs.count == 0


def test_listeners_hear_of_every_choice(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.ToCa(3, 0.3))
    compiled(model)
    with pytest.warns(tocache.TocacheWarning, match="somebody looks"), tocache.trace(model) as seen:
        tiny.run(model, 10)
    assert len(seen.choices) == (seen.plan.choices > 0).sum()


def test_another_method_is_compiled_too_until_disable(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.FORA(3))
    compiled(model)
    tocache.enable(model, tocache.FORA(4))
    tiny.run(model, 9)
    assert tocache.report(model).graphs > 0
    tocache.disable(model)
    tocache.enable(model, tocache.FORA(4))
    tiny.run(model, 9)
    assert tocache.report(model).graphs is None


@pytest.mark.parametrize("name", ["multiple", "most"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "2"])
def test_impossible_options_are_refused(tiny_of: Any, name: str, value: object) -> None:
    model = tiny_of("dit").build()
    tocache.enable(model, tocache.FORA(3))
    with pytest.raises(tocache.OptionError, match=f"{name}={value!r} is not allowed; allowed: an integer >= 1"):
        tocache.compile(model, **{name: value})
    assert engine_of(model).graphs is None


def test_compiling_needs_a_cache(tiny_of: Any) -> None:
    with pytest.raises(tocache.NotEnabledError):
        tocache.compile(tiny_of("dit").build())


@pytest.mark.slow
def test_inductors_code_gives_what_plain_steps_do(tiny_of: Any) -> None:
    tiny = tiny_of("dit")
    model = tiny.build()
    del model.transformer_blocks[1:]  # it takes half a minute for each graph of a whole one
    tocache.enable(model, tocache.FORA(5))
    wanted = tiny.run(model, 9)
    tocache.compile(model)
    assert_same(tiny.run(model, 9), wanted)
    assert tocache.report(model).graphs > 1


@pytest.mark.slow
def test_a_cache_outlives_graphs_that_write_over_their_outputs(tiny_of: Any) -> None:
    """As CUDA graphs do, whose mode this is."""

    def overwriting(graph: Any, inputs: Any, **options: Any) -> Any:
        kept: list[torch.Tensor] = []

        def run(*args: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = graph(*args)
            if not kept:
                kept.extend(torch.empty_like(output) for output in outputs)
            for place, output in zip(kept, outputs, strict=True):
                place.copy_(output)
            return tuple(kept)

        return run

    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, tocache.TaylorSeer(2, order=2))
    wanted = tiny.run(model, 12)
    tocache.compile(model, backend=overwriting, mode="reduce-overhead")
    assert_same(tiny.run(model, 12), wanted)
    tocache.compile(model, backend=overwriting)
    with pytest.raises(AssertionError):
        assert_same(tiny.run(model, 12), wanted)
