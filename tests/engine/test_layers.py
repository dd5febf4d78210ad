"""What really runs: which modules are called in which step, and with how many tokens."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

import tocache
from tocache.plan import ALL, Policy

TOKENS, TEXT = 16, 5  # see conftest
FULL = (0, 3)


def watch_tokens(model, paths):
    """path → the number of tokens that each call of the module saw, step by step as the test clears it."""
    seen = defaultdict(list)
    for path in paths:

        def hook(module, args, kwargs, output, path=path):
            x = args[0] if args else next(iter(kwargs.values()))
            seen[path].append(x.shape[1])

        model.get_submodule(path).register_forward_hook(hook, with_kwargs=True)
    return seen


def steps_of(tiny, model, seen, steps=9):
    """What the modules saw in each step of a run."""
    rows = []
    with tocache.run(model, timesteps=steps, cfg=None) as run:
        for step in range(steps):
            seen.clear()
            tiny.forward(model, step)
            run.step()
            rows.append({path: list(tokens) for path, tokens in seen.items()})
    return rows


DOUBLE, SINGLE = "transformer_blocks.1", "single_transformer_blocks.1"
PATHS = {
    "dit": [f"{DOUBLE}.{name}" for name in ("norm1", "attn1", "norm3", "ff")],
    "pixart": [f"{DOUBLE}.{name}" for name in ("norm1", "attn1", "attn2", "norm2", "ff")],
    "flux": [
        *(f"{DOUBLE}.{name}" for name in ("norm1", "norm1_context", "attn", "norm2", "ff", "norm2_context")),
        *(f"{DOUBLE}.ff_context", f"{SINGLE}.norm", f"{SINGLE}.proj_mlp", f"{SINGLE}.attn", f"{SINGLE}.proj_out"),
    ],
}
NORMS = ("norm1", "norm1_context", "norm2", "norm2_context", "norm3", "norm")


def group_tokens(path):
    if path.startswith("single"):
        return TOKENS + TEXT
    return TEXT if "context" in path else TOKENS


def test_a_full_step_runs_every_module_on_all_tokens(tiny, table, by_kind):
    model = tiny.build()
    seen = watch_tokens(model, PATHS[tiny.family])
    kinds = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)
    tocache.enable(model, table(by_kind(FULL, **kinds)))
    rows = steps_of(tiny, model, seen)
    for step in FULL:
        assert rows[step] == {path: [group_tokens(path)] for path in PATHS[tiny.family]}


def test_a_reuse_step_calls_no_sub_layer_and_norms_see_one_token(tiny, table, by_kind):
    model = tiny.build()
    seen = watch_tokens(model, PATHS[tiny.family])
    kinds = dict.fromkeys(("self_attention", "cross_attention", "mlp", "parallel"), 0)
    tocache.enable(model, table(by_kind(FULL, **kinds)))
    rows = steps_of(tiny, model, seen)
    for step in {*range(9)} - {*FULL}:
        assert rows[step] == {path: [1] for path in PATHS[tiny.family] if path.rpartition(".")[2] in NORMS}


def test_a_partial_step_runs_norms_and_mlps_on_the_fresh_tokens_alone(tiny, table, by_kind):
    model = tiny.build()
    seen = watch_tokens(model, PATHS[tiny.family])
    amounts = {"self_attention": 0, "cross_attention": 5, "mlp": 3, "parallel": 7}
    tocache.enable(model, table(by_kind(FULL, **amounts), Policy({"norm": 1.0})))
    rows = steps_of(tiny, model, seen)
    expected = {
        "dit": {"norm1": 1, "norm3": 3, "ff": 3},
        "pixart": {"norm1": 1, "attn2": 5, "norm2": 3, "ff": 3},
        "flux": {"norm1": 1, "norm1_context": 1, "norm2": 3, "ff": 3, "norm2_context": 3, "ff_context": 3},
    }[tiny.family]
    expected = {f"{DOUBLE}.{name}": [count] for name, count in expected.items()}
    if tiny.family == "flux":
        # the attention's rows are taken from the cache: its module is not called
        expected |= {f"{SINGLE}.{name}": [7] for name in ("norm", "proj_mlp", "proj_out")}
    assert rows[1] == rows[5] == expected


def test_computing_all_tokens_as_chosen_ones_equals_computing_all(tiny, table, by_kind):
    """The same amounts twice, as ALL and as a choice of every token; attention is reused in both."""

    def chosen(fresh, source, anatomy):
        for i, site in enumerate(anatomy.sites):
            fresh[1:, :, i] = anatomy.tokens(site) if site.rows and not site.pairs else 0

    def everything(fresh, source, anatomy):
        fresh[1:] = [ALL if site.rows and not site.pairs else 0 for site in anatomy.sites]

    outputs = []
    for fill, policy in ((chosen, Policy({"norm": 1.0})), (everything, Policy())):
        model = tiny.build()
        tocache.enable(model, table(fill, policy))
        outputs.append(tiny.run(model))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    plain = tiny.forward(tiny.build(), 8)
    assert not torch.allclose(outputs[0][8], plain, rtol=1e-3, atol=1e-3)


def test_stale_tokens_keep_what_they_had_and_fresh_ones_are_written_for_later(tiny_of, table):
    """One MLP of a DiT, followed by hand: its output must be the last full one with each step's rows put in."""
    tiny, path = tiny_of("dit"), "transformer_blocks.3.ff"

    def fill(fresh, source, anatomy):
        fresh[1:, 0, anatomy.index[path]] = 4

    model, rows = tiny.build(), []
    model.get_submodule(path).register_forward_hook(lambda m, args, y: rows.append(y.clone()))
    final = []
    model.norm_out.register_forward_pre_hook(lambda m, args: final.append(args[0].clone()))
    before = []
    model.get_submodule("transformer_blocks.3.norm3").register_forward_pre_hook(lambda m, a: before.append(a[0]))
    tocache.enable(model, table(fill, Policy({"norm": 1.0}, staleness=0.25, interval=2)))
    with tocache.trace(model) as trace:
        tiny.run(model)
    gates = []
    block = model.transformer_blocks[3]
    feature = rows[0].clone()
    for step in range(9):
        inputs = tiny.inputs(step)
        with torch.no_grad():
            emb = block.norm1.emb(inputs["timestep"], inputs["class_labels"], hidden_dtype=torch.float32)
            gate = block.norm1.linear(torch.nn.functional.silu(emb)).chunk(6, dim=1)[5]
        if step:
            index = trace.choices[step, 0, path]
            feature.scatter_(1, index[:, :, None].expand(-1, -1, 16), rows[step])
        gates.append(final[step] - gate[:, None] * feature)
    plain = tiny.build()
    stream = []
    plain.transformer_blocks[3].norm3.register_forward_pre_hook(lambda m, a: stream.append(a[0].clone()))
    for step in range(9):
        tiny.forward(plain, step)
        torch.testing.assert_close(gates[step], stream[step], rtol=1e-4, atol=1e-5)


def chunk(model, size):
    for block in model.transformer_blocks:
        block.set_chunk_feed_forward(size, dim=1)


@pytest.mark.parametrize("family", ["dit", "pixart"])
def test_chunked_mlps_are_computed_whole_with_one_warning(tiny_of, table, by_kind, family):
    tiny = tiny_of(family)
    amounts = {"self_attention": 0, "cross_attention": 0}
    model = tiny.build()
    tocache.enable(model, table(by_kind(FULL, **amounts)))  # the MLPs are computed in every step
    expected = tiny.run(model)
    for mlp in (0, 4):
        model = tiny.build()
        chunk(model, 4)
        tocache.enable(model, table(by_kind(FULL, mlp=mlp, **amounts), Policy({"norm": 1.0})))
        with pytest.warns(tocache.TocacheWarning, match="chunked feed-forwards") as caught:
            outputs = tiny.run(model) + tiny.run(model)
        assert len(caught) == 1
        for got, want in zip(outputs, expected * 2, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        report = tocache.report(model)
        assert report.flops_computed > report.flops_planned


def test_chunking_switched_off_again_is_noticed_in_the_next_run(tiny_of, table, by_kind):
    tiny, model = tiny_of("dit"), tiny_of("dit").build()
    tocache.enable(model, table(by_kind(FULL, mlp=0)))
    plain = tiny.run(model)
    chunk(model, 4)
    with pytest.warns(tocache.TocacheWarning, match="chunked feed-forwards"):
        tiny.run(model)
    chunk(model, None)
    assert all(torch.equal(a, b) for a, b in zip(tiny.run(model), plain, strict=True))
    assert tocache.report(model).overruled == 0
