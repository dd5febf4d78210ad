"""Self-attention of single tokens: their queries over the keys and values of all, most of which are cached."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor, FusedAttnProcessor2_0

import tocache
from tocache.plan import Policy

FAMILIES = ("dit", "pixart")
FULL = (0, 3, 6)
KINDS = {"self_attention": 1.0, "cross_attention": 1.0, "mlp": 1.0}


def only_attention(amount: int, blocks: tuple[int, ...] = (0, 1, 2, 3)):
    """In steps that are not full, these blocks' attention computes so many tokens, and everything else all."""

    def fill(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            if site.kind == "self-attention" and site.block in blocks:
                fresh[[step for step in range(9) if step not in FULL], :, i] = amount

    return fill


def uncached(tiny, model) -> list[torch.Tensor]:
    return [tiny.forward(model, step) for step in range(9)]


def inputs_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Filled with the module's first argument at each call."""
    seen: list[torch.Tensor] = []
    module.register_forward_hook(
        lambda _, args, kwargs, output: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tokens_are_what_the_model_computes(tiny_of, table, family):
    tiny = tiny_of(family)
    cached, plain = tiny.build(), tiny.build()
    tocache.enable(cached, table(only_attention(16), Policy(scores={"norm": 1.0})))
    for one, other in zip(tiny.run(cached), uncached(tiny, plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    report = tocache.report(cached)
    assert report.overruled == 0
    assert report.steps_by_kind == {"full": 3, "partial": 6}


@pytest.mark.parametrize("family", FAMILIES)
def test_some_tokens_attend_to_the_newest_keys_and_values_of_each_token(tiny_of, table, family):
    tiny = tiny_of(family)
    cached, plain = tiny.build(), tiny.build()
    inputs = inputs_of(plain.transformer_blocks[0].attn1)  # the first block's are the same with and without a cache
    uncached(tiny, plain)
    attention = plain.transformer_blocks[0].attn1

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    tocache.enable(cached, table(only_attention(5, blocks=(0,)), Policy(scores={"random": 1.0})))
    with tocache.trace(cached) as traced, tocache.run(cached, timesteps=9, cfg=None) as run:
        for step in range(9):
            got: list[torch.Tensor] = []
            hooked = (
                cached.transformer_blocks[0]
                .attn1.to_out[0]
                .register_forward_hook(lambda _, args, output, got=got: got.append(output))
            )
            tiny.forward(cached, step)
            hooked.remove()
            x = inputs[step]
            keys, values = heads(attention.to_k(x)), heads(attention.to_v(x))
            if step in FULL:
                newest = [keys.clone(), values.clone()]
            else:
                index = traced.choices[step, 0, "transformer_blocks.0.attn1"]
                rows = torch.arange(2)[:, None]
                newest[0][rows, :, index] = keys[rows, :, index]
                newest[1][rows, :, index] = values[rows, :, index]
                queries = heads(attention.to_q(x[rows, index]))
                attended = F.scaled_dot_product_attention(queries, *newest).transpose(1, 2).flatten(2)
                expected = attention.to_out[0](attended)
                torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=1e-5)
                assert got[0].shape[1] == 5
            run.step()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", ["sublayer", "block", "step"])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("stale", ["reuse", "polynomial"])
def test_bytes_and_flops_are_those_that_the_plan_states(tiny_of, family, share, offload, stale):
    model = tiny_of(family).build()
    order = 0 if stale == "reuse" else 1
    method = tocache.ToCa(
        3, 0.25, kinds={k.replace("_", "-"): v for k, v in KINDS.items()}, share=share, stale=stale, order=order
    )
    tocache.enable(model, method, offload=offload)
    tiny_of(family).run(model)
    report = tocache.report(model)
    assert report.overruled == 0
    assert report.flops_computed == report.flops_planned
    assert report.cache_bytes_peak == report.cache_bytes_planned
    assert report.cache_bytes_device_peak == report.cache_bytes_device_planned


def test_its_keys_and_values_are_part_of_the_cache(tiny_of, table):
    """Per attention: one feature, and keys and values as wide as two more."""
    peaks = []
    for amount in (0, 4):
        model = tiny_of("dit").build()
        tocache.enable(model, table(only_attention(amount), Policy(scores={"norm": 1.0})))
        tiny_of("dit").run(model)
        peaks.append(tocache.report(model).cache_bytes_peak)
    assert peaks[1] == 3 * peaks[0]


def test_a_run_outside_of_inference_mode_may_follow_one_inside_and_gradients_flow(tiny_of, table):
    tiny = tiny_of("dit")
    model = tiny.build()
    tocache.enable(model, table(only_attention(4), Policy(scores={"norm": 1.0})))
    with torch.inference_mode():
        inside = tiny.run(model)
    with tocache.run(model, timesteps=9, cfg=None) as run:
        for step in range(9):
            arguments = tiny.inputs(step)
            x = arguments["hidden_states"].requires_grad_()
            output = model(**arguments)[0]
            output.sum().backward()
            assert x.grad is not None
            torch.testing.assert_close(output.detach(), inside[step], rtol=1e-5, atol=1e-6)
            run.step()


def test_an_attention_that_cannot_be_seen_is_computed(tiny_of, table):
    tiny = tiny_of("dit")
    cached, plain = tiny.build(), tiny.build()
    for block in (*cached.transformer_blocks, *plain.transformer_blocks):
        block.attn1.set_processor(AttnProcessor())
    tocache.enable(cached, table(only_attention(4), Policy(scores={"norm": 1.0})))
    with pytest.warns(tocache.TocacheWarning, match="does not call scaled_dot_product_attention"):
        outputs = tiny.run(cached)
    assert all(torch.equal(one, other) for one, other in zip(outputs, uncached(tiny, plain), strict=True))
    assert tocache.report(cached).overruled == 4 * 6


def test_a_projection_of_queries_keys_and_values_together(tiny_of, table):
    """Keys and values that are views of a fused projection keep nothing of the queries."""
    tiny = tiny_of("dit")
    model = tiny.build()
    for block in model.transformer_blocks:
        block.attn1.fuse_projections()
        block.attn1.set_processor(FusedAttnProcessor2_0())
    tocache.enable(model, table(only_attention(4), Policy(scores={"norm": 1.0})))
    tiny.run(model)
    report = tocache.report(model)
    assert report.cache_bytes_peak == report.cache_bytes_planned
