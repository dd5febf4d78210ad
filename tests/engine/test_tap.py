"""Listeners of what sites give: they see it all, and what they put in its place reaches the model alone."""

from __future__ import annotations

import pytest
import torch

import tocache

STEPS = 9


def taped(tiny, method, on_output):
    """The outputs of a run whose sites `on_output` listens to, and its record."""
    model = tiny.build()
    tocache.enable(model, method)
    with tocache.tap(model, on_output):
        outputs = tiny.run(model, STEPS)
    return outputs, tocache.report(model)


def test_every_site_is_seen_in_every_step_and_the_model_runs_as_without(tiny):
    seen = []
    outputs, report = taped(tiny, tocache.Uncached(), lambda *what: seen.append(what))
    plain = tiny.run(enabled(tiny, tocache.Uncached()), STEPS)
    assert all(torch.equal(one, other) for one, other in zip(outputs, plain, strict=True))
    sites = {site.name: site for site in report.plan.sites}
    assert [(step, number, name) for step, number, name, _ in seen] == [
        (step, 0, name) for step in range(STEPS) for name in order(seen)
    ]
    assert set(order(seen)) == set(sites)
    for _, _, name, value in seen:
        tokens = report.plan.anatomies[0].tokens(sites[name])
        assert value.shape == (2, tokens, sites[name].width)


def order(seen):
    """The sites of the first step as they came."""
    return [name for step, _, name, _ in seen if step == 0]


def enabled(tiny, method):
    model = tiny.build()
    tocache.enable(model, method)
    return model


def test_what_is_put_in_place_of_an_output_reaches_the_model_in_each_way_it_is_made(tiny, table, by_kind):
    """The old features given back by hand are the same as served ones: compared with a plan that serves them."""
    served = table(by_kind(full=(0, 3, 6), **dict.fromkeys(KINDS[tiny.family], 0)))
    plain = tiny.run(enabled(tiny, served), STEPS)
    kept: dict[str, torch.Tensor] = {}

    def reuse(step, number, site, value):
        if step % 3 == 0:
            kept[site] = value
            return None
        return kept[site]

    by_hand, _ = taped(tiny, tocache.Uncached(), reuse)
    for one, other in zip(by_hand, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


KINDS = {
    "dit": ("self_attention", "mlp"),
    "pixart": ("self_attention", "cross_attention", "mlp"),
    "flux": ("self_attention", "mlp", "parallel"),
}


def test_the_cache_keeps_what_was_computed(tiny, table, by_kind):
    """What a listener put into a full step is not what later steps are served."""
    served = table(by_kind(full=(0,), **dict.fromkeys(KINDS[tiny.family], 0)))
    full, later = {}, {}

    def disturb(step, number, site, value):
        (full if step == 0 else later).setdefault(site, value.clone())
        return value + 1 if step == 0 else None

    taped(tiny, served, disturb)
    assert later
    for site, value in later.items():
        assert torch.equal(value, full[site])


def test_fresh_rows_are_shown_among_the_stale_ones(tiny_of, table, by_kind):
    tiny, values = tiny_of("dit"), {}
    method = table(by_kind(full=(0,), mlp=4), tocache.Policy(scores={"norm": 1.0}))
    model = enabled(tiny, method)

    def note(step, number, site, value):
        values[step, site] = value.clone()

    with tocache.trace(model) as recorded, tocache.tap(model, note):
        tiny.run(model, STEPS)
    for (step, _, site), index in recorded.choices.items():
        moved = (values[step, site] != values[step - 1, site]).any(dim=-1)  # (rows, tokens)
        chosen = torch.zeros_like(moved).scatter(1, index, True)
        assert (moved <= chosen).all()
        assert moved.any()


def test_regions_are_shown_and_replaced(tiny, table):
    """A region's residual, doubled by a listener while it is computed: the streams move by the residual once more."""
    region = ("transformer_blocks", 1, 1)
    name = "transformer_blocks[1:2]"
    method = table(lambda fresh, source, anatomy: None, regions=(region,))
    model = enabled(tiny, method)
    before, after = [], []
    block = model.get_submodule("transformer_blocks.1")

    def double(step, number, site, value):
        return 2 * value if site == name else None

    following = model.get_submodule(FOLLOWING[tiny.family])
    block.register_forward_pre_hook(lambda _, a, k: before.append(stream(a, k)), with_kwargs=True)
    block.register_forward_hook(lambda _, a, k, out: before.append(last(out)), with_kwargs=True)
    following.register_forward_pre_hook(lambda _, a, k: after.append(stream(a, k)), with_kwargs=True)
    with tocache.tap(model, double):
        tiny.run(model, STEPS)
    for given, out, seen in zip(before[::2], before[1::2], after, strict=True):
        torch.testing.assert_close(seen, given + 2 * (out - given))


FOLLOWING = {"dit": "transformer_blocks.2", "pixart": "transformer_blocks.2", "flux": "single_transformer_blocks.0"}


def stream(args, kwargs):
    """The image stream that a block is given."""
    return (args[0] if args else kwargs["hidden_states"]).clone()


def last(output):
    return output[-1] if isinstance(output, tuple) else output


def test_listeners_come_and_go_with_their_block(tiny_of):
    tiny = tiny_of("dit")
    model, seen = enabled(tiny, tocache.Uncached()), []
    with tocache.tap(model, lambda *what: seen.append(what)):
        pass
    tiny.run(model, STEPS)
    assert seen == []
    tocache.disable(model)
    with pytest.raises(tocache.NotEnabledError), tocache.tap(model, lambda *what: None):
        pass


def test_several_listeners_see_what_those_before_them_gave(tiny_of):
    tiny, pairs = tiny_of("dit"), {}
    model = enabled(tiny, tocache.Uncached())

    def first(step, number, site, value):
        pairs[step, site] = [value]
        return 3 * value

    def second(step, number, site, value):
        pairs[step, site].append(value)

    with tocache.tap(model, first), tocache.tap(model, second):
        tiny.run(model, STEPS)
    assert len(pairs) == STEPS * 8
    assert all(torch.equal(3 * one, other) for one, other in pairs.values())
