"""How widely one choice of tokens is shared: by sub-layers, blocks, steps, guidance halves and passes."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

import tocache
from tocache.plan import Policy

AMOUNTS = {"self_attention": 0, "cross_attention": 5, "mlp": 3, "parallel": 4}
SCORES = {"dit": {"influence": 1.0}, "pixart": {"entropy": 1.0}, "flux": {"influence": 1.0}}


def traced(tiny, method, *, cfg=None, rows=2, flip=False):
    """The choices of a run of 9 steps with two partial steps after each full one."""
    model = tiny.build()
    tocache.enable(model, method)
    with tocache.trace(model) as trace, tocache.run(model, timesteps=9, cfg=cfg) as run:
        for step in range(9):
            inputs = tiny.inputs(step, rows)
            if flip:
                inputs = {k: _flipped(v, rows) for k, v in inputs.items()}
            with torch.no_grad():
                model(**inputs)
                if cfg == "two-pass":
                    model(**tiny.inputs(step, rows, who=1))
            run.step()
    assert tocache.report(model).overruled == 0
    return trace


def _flipped(value, rows):
    if isinstance(value, torch.Tensor) and value.shape[:1] == (rows,):
        return torch.cat([value[rows // 2 :], value[: rows // 2]])
    return value


def method(tiny, table, by_kind, amounts=AMOUNTS, **policy):
    policy = {"scores": SCORES[tiny.family], "staleness": 0.25, "interval": 3} | policy
    return table(by_kind(full=(0, 3, 6), **amounts), Policy(**policy))


def grouped(trace, key):
    """The choices that one scope shares, by step."""
    sites = {site.name: site for site in trace.plan.sites}
    scopes = defaultdict(list)
    for (step, number, name), index in trace.choices.items():
        scopes[(step, number, *key(sites[name]))].append(index)
    return scopes


class TestShare:
    def test_a_step_chooses_once_for_each_token_group(self, tiny, table, by_kind):
        trace = traced(tiny, method(tiny, table, by_kind, share="step"))
        scopes = grouped(trace, lambda site: (site.group,))
        assert len(scopes) == 6 * (3 if tiny.family == "flux" else 1)
        for indices in scopes.values():
            longest = max(indices, key=lambda index: index.shape[1])
            assert len(indices) > 1
            assert all(torch.equal(index, longest[:, : index.shape[1]]) for index in indices)

    def test_a_block_chooses_once_and_blocks_differ(self, tiny, table, by_kind):
        trace = traced(tiny, method(tiny, table, by_kind, share="block"))
        for indices in grouped(trace, lambda site: (site.stack, site.block, site.group)).values():
            longest = max(indices, key=lambda index: index.shape[1])
            assert all(torch.equal(index, longest[:, : index.shape[1]]) for index in indices)
        step = [index[:, :3].tolist() for (s, _, name), index in trace.choices.items() if s == 1 and "ff" in name]
        assert any(index != step[0] for index in step)

    def test_each_sub_layer_chooses_for_itself(self, tiny, table, by_kind):
        trace = traced(tiny, method(tiny, table, by_kind, share="sublayer"))
        step = [index[:, :3].tolist() for (s, _, _), index in trace.choices.items() if s == 1]
        assert any(index != step[0] for index in step)

    def test_a_choice_names_no_token_twice(self, tiny, table, by_kind):
        for share in ("sublayer", "step"):
            for index in traced(tiny, method(tiny, table, by_kind, share=share)).choices.values():
                assert all(len(set(row)) == len(row) for row in index.tolist())

    def test_staleness_alone_goes_round_all_tokens(self, tiny, table, by_kind):
        """With nothing but age to go by, no token is chosen again before all others were."""
        amounts = AMOUNTS | {"cross_attention": 3, "parallel": 3}
        policy = Policy(staleness=0.25, interval=3)
        trace = traced(tiny, table(by_kind(full=(0,), **amounts), policy))
        chosen = defaultdict(list)
        for (_, _, name), index in sorted(trace.choices.items()):
            chosen[name].append(index[0].tolist())
        for name, rounds in chosen.items():
            tokens = trace.plan.anatomies[0].tokens(trace.plan.anatomies[0].sites[trace.plan.anatomies[0].index[name]])
            first = [token for index in rounds for token in index][:tokens]
            assert len(set(first)) == len(first)
            # ties go to the lower index
            assert rounds[0] == [0, 1, 2]


class TestTogether:
    @pytest.mark.parametrize("cfg", ["cond,uncond", "uncond,cond"])
    def test_both_halves_choose_alike_whichever_comes_first(self, tiny, table, by_kind, cfg):
        trace = traced(tiny, method(tiny, table, by_kind, together=True), cfg=cfg, rows=4)
        assert trace.choices
        for index in trace.choices.values():
            assert torch.equal(index[:2], index[2:])
        assert any(not torch.equal(index[0], index[1]) for index in trace.choices.values())  # pictures differ
        flipped = traced(tiny, method(tiny, table, by_kind, together=True), cfg=cfg, rows=4, flip=True)
        for key, index in trace.choices.items():
            assert torch.equal(flipped.choices[key], index)

    def test_halves_choose_apart_where_the_policy_says_so_or_rows_are_independent(self, tiny, table, by_kind):
        for together, cfg in ((False, "cond,uncond"), (True, None)):
            trace = traced(tiny, method(tiny, table, by_kind, together=together), cfg=cfg, rows=4)
            assert any(not torch.equal(index[:2], index[2:]) for index in trace.choices.values())

    def test_of_two_passes_the_second_takes_the_firsts_tokens(self, tiny, table, by_kind):
        trace = traced(tiny, method(tiny, table, by_kind, together=True), cfg="two-pass")
        second = {key: index for key, index in trace.choices.items() if key[1] == 1}
        assert len(second) * 2 == len(trace.choices)
        for (step, _, name), index in second.items():
            assert torch.equal(index, trace.choices[step, 0, name])
        apart = traced(tiny, method(tiny, table, by_kind), cfg="two-pass")
        assert any(
            not torch.equal(index, apart.choices[step, 0, name])
            for (step, number, name), index in apart.choices.items()
            if number == 1
        )

    def test_a_random_choice_is_one_draw_for_both_halves_and_the_same_in_every_run(self, tiny, table, by_kind):
        random = {"scores": {"random": 1.0}, "staleness": 0.0}
        one = traced(tiny, method(tiny, table, by_kind, **random), cfg="cond,uncond", rows=4)
        two = traced(tiny, method(tiny, table, by_kind, **random), cfg="cond,uncond", rows=4)
        other = traced(tiny, method(tiny, table, by_kind, seed=1, **random), cfg="cond,uncond", rows=4)
        assert all(torch.equal(index[:2], index[2:]) for index in one.choices.values())
        assert all(torch.equal(index, two.choices[key]) for key, index in one.choices.items())
        assert any(not torch.equal(index, other.choices[key]) for key, index in one.choices.items())


@pytest.mark.parametrize("score", ["value-norm", "key-norm", "norm", "similarity"])
def test_other_scores_choose_other_tokens(tiny, table, by_kind, score):
    one = traced(tiny, method(tiny, table, by_kind, scores={score: 1.0}))
    usual = traced(tiny, method(tiny, table, by_kind))
    assert any(not torch.equal(index, usual.choices[key]) for key, index in one.choices.items())
