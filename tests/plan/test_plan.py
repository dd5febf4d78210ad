"""The table: what it refuses, how it is carried over to other shapes and lengths, and whose tokens are chosen where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tocache.errors import OptionError, PlanError, PlanMismatchError
from tocache.plan import ALL, SKIPPED, Plan, Policy, kind_of


def table(anatomy, steps: int = 4, passes: int = 1) -> np.ndarray:
    return np.full((steps, passes, len(anatomy.sites)), ALL, dtype=np.int32)


def plan(anatomy, fresh, *, passes: int = 1, source=None, **policy) -> Plan:
    return Plan((anatomy,) * passes, fresh.copy(), Policy(**policy), "by hand", source)


def in_turns(anatomy):
    """`anatomy` with another stack like its own, each block of it behind its twin."""
    pairs = []
    for site, cost in zip(anatomy.sites, anatomy.costs, strict=True):
        twin = replace(site, name=site.name.replace("blocks", "others"), stack="others")
        pairs += [(site.block, 0, site, cost), (site.block, 1, twin, cost)]
    pairs.sort(key=lambda pair: pair[:2])
    return replace(anatomy, sites=tuple(p[2] for p in pairs), costs=tuple(p[3] for p in pairs))


class TestValidation:
    @pytest.mark.parametrize("amount", [17, -2, 4000])
    def test_an_amount_beyond_the_tokens_names_step_pass_and_site(self, toy, amount):
        fresh = table(toy(), passes=2)
        fresh[2, 1, 5] = amount
        with pytest.raises(PlanError, match=rf"step 2, pass 1, blocks\.1\.ff: amount {amount}; .*0 … the site's tok"):
            plan(toy(), fresh, passes=2)

    def test_all_tokens_of_the_site_are_allowed(self, toy):
        fresh = table(toy())
        fresh[1, 0, 2] = 16
        assert plan(toy(), fresh).choices[1, 0, 2] == 16

    def test_a_self_attention_computes_all_or_nothing(self, toy):
        fresh = table(toy())
        fresh[1:, 0, 0] = 0
        plan(toy(), fresh)
        fresh[3, 0, 0] = 1
        with pytest.raises(PlanError, match=r"step 3, pass 0, blocks\.0\.attn: amount 1; this site cannot compute sin"):
            plan(toy(), fresh)

    def test_the_first_step_computes_everything(self, toy):
        fresh = table(toy())
        fresh[0, 0, 4] = 3
        with pytest.raises(PlanError, match=r"step 0, pass 0, blocks\.1\.cross: amount 3; the first step must be ALL"):
            plan(toy(), fresh)

    @pytest.mark.parametrize(("p", "source"), [(0, 0), (1, 1), (1, 2), (0, -2), (1, -3)])
    def test_a_pass_copies_an_earlier_one_only(self, toy, p, source):
        sources = np.full((4, 2), -1, dtype=np.int8)
        sources[3, p] = source
        with pytest.raises(PlanError, match=f"step 3, pass {p}: a pass can copy an earlier pass of its step only"):
            plan(toy(), table(toy(), passes=2), passes=2, source=sources)

    def test_a_fused_block_that_attends_computes_all_of_it(self, toy_fused):
        anatomy = toy_fused()
        fresh = table(anatomy)
        i = anatomy.index["single.1"]
        fresh[2, 0, i] = 3
        with pytest.raises(PlanError, match=r"step 2, pass 0, single\.1: amount 3; a fused block that computes its at"):
            plan(anatomy, fresh)
        fresh[2, 0, anatomy.index["single.1.attn"]] = 0
        plan(anatomy, fresh)

    @pytest.mark.parametrize("shape", [(4, 1, 3), (4, 2, 9), (4, 9), (0, 1, 9)])
    def test_a_table_of_another_shape(self, toy, shape):
        with pytest.raises(PlanError, match=r"fresh has shape|at least one step"):
            plan(toy(), np.full(shape, ALL, dtype=np.int32))

    @pytest.mark.parametrize("shape", [(3, 1), (4, 2), (4,)])
    def test_copies_of_another_shape(self, toy, shape):
        with pytest.raises(PlanError, match="source"):
            plan(toy(), table(toy()), source=np.full(shape, -1, dtype=np.int8))

    def test_passes_with_different_sites(self, toy):
        with pytest.raises(PlanError, match="pass 1 has other sites than pass 0"):
            Plan((toy(3), replace(toy(4), sites=toy(4).sites[3:])), table(toy(), passes=2), Policy(), "by hand")

    def test_scores_need_a_map_where_tokens_are_chosen(self, toy_fused):
        anatomy = toy_fused()
        fresh = table(anatomy)
        fresh[1, 0, 2] = 1
        plan(anatomy, fresh, scores={"influence": 1.0})
        with pytest.raises(PlanError, match=r"double\.0\.ff\[image\].*no attention map.*entropy"):
            plan(anatomy, fresh, scores={"entropy": 1.0})
        plan(anatomy, table(anatomy), scores={"entropy": 1.0})  # nothing is chosen, so nothing is missing

    def test_regions_that_overlap_are_refused(self, toy):
        anatomy = toy(5).with_region("blocks", 0, 2).with_region("blocks", 2, 4)
        fresh = table(anatomy)
        with pytest.raises(PlanError, match="overlap"):
            plan(anatomy, fresh)

    def test_a_region_outside_its_stack(self, toy):
        for first, last in ((0, 3), (2, 1), (-1, 1)):
            with pytest.raises(OptionError, match=r"region blocks\[.*does not exist; stacks: blocks \(blocks 0 … 2\)"):
                toy().with_region("blocks", first, last)
        with pytest.raises(OptionError, match="does not exist"):
            toy().with_region("nowhere", 0, 1)

    def test_a_region_of_stacks_that_take_turns_spans_both(self, toy):
        anatomy = in_turns(toy())
        assert anatomy.spans == {"blocks+others": 3}
        (region,) = (s for s in anatomy.with_region("blocks+others", 1, 2).sites if s.kind == "region")
        assert region.name == "blocks+others[1:3]"
        assert {name.split(".")[0] for name in region.inside} == {"blocks", "others"}
        assert len(region.inside) == 4 * len(toy().sites) // 3
        with pytest.raises(OptionError, match=r"blocks\[1:3\] does not exist; stacks: blocks\+others \(blocks 0 … 2\)"):
            anatomy.with_region("blocks", 1, 2)

    def test_stacks_that_take_turns_on_tokens_in_another_order_are_no_region(self, toy):
        anatomy = in_turns(toy())
        sites = [replace(s, group="places") if s.stack == "others" else s for s in anatomy.sites]
        assert "arrange the tokens" in replace(anatomy, sites=tuple(sites)).unfit("blocks+others")
        with pytest.raises(OptionError, match="is not allowed: blocks that take turns differ"):
            replace(anatomy, sites=tuple(sites)).with_region("blocks+others", 0, 2)

    def test_stacks_one_behind_the_other_are_regions_of_their_own(self, toy_fused):
        assert toy_fused().spans == {"double": 1, "single": 2}

    @pytest.mark.parametrize(("first", "last", "allowed"), [(0, 1, False), (0, 3, True), (1, 3, True), (2, 3, True)])
    def test_a_region_is_not_served_where_a_block_behind_it_reads_within(self, toy, first, last, allowed):
        anatomy = replace(toy(4), skips={"blocks": ((0, 3),)}).with_region("blocks", first, last)
        fresh = table(anatomy)
        plan(anatomy, fresh)
        fresh[1, :, [site.kind == "region" for site in anatomy.sites]] = 0
        if allowed:
            plan(anatomy, fresh)
        else:
            with pytest.raises(PlanError, match=r"blocks\[0:2\] may not be served: block 3 reads what block 0 gives"):
                plan(anatomy, fresh)

    def test_a_region_of_streams_that_differ_in_width(self, toy):
        anatomy = toy()
        narrow = [replace(site, width=2) if i % 2 else site for i, site in enumerate(anatomy.sites)]
        with pytest.raises(
            OptionError, match=r"region blocks\[0:2\] is not allowed: its streams are 2 and \d+ channels"
        ):
            replace(anatomy, sites=tuple(narrow)).with_region("blocks", 0, 1)

    def test_a_table_is_its_own_and_cannot_be_changed(self, toy):
        fresh = table(toy())
        made = Plan((toy(),), fresh, Policy(), "by hand")
        fresh[1] = 0  # the caller's array is the caller's
        assert (made.fresh == ALL).all()
        for array in (made.fresh, made.source):
            with pytest.raises(ValueError, match="read-only"):
                array[1] = 0

    def test_amounts_that_are_no_integers(self, toy):
        fresh = table(toy()).astype(float)
        fresh[1, 0, 2] = 2.7
        with pytest.raises(PlanError, match=r"integer|2\.7"):
            plan(toy(), fresh)

    def test_a_second_pass_that_follows_cannot_choose_more_than_the_first(self, toy):
        fresh = table(toy(), passes=2)
        fresh[2, 0, 2], fresh[2, 1, 2] = 2, 5
        with pytest.raises(PlanError, match="step 2, pass 1"):
            plan(toy(), fresh, passes=2, together=True)


class TestAmounts:
    def test_what_a_served_region_encloses_is_skipped(self, toy):
        anatomy = toy().with_region("blocks", 1, 2)
        fresh = table(anatomy)
        region = anatomy.index["blocks[1:3]"]
        assert region == 3  # before its first block
        assert anatomy.sites[region].span == 2
        fresh[2, 0, region] = 0
        amounts = plan(anatomy, fresh).amounts
        assert amounts[2, 0].tolist() == [ALL] * 3 + [0] + [SKIPPED] * 6
        assert (amounts[[0, 1, 3]] == ALL).all()

    def test_a_served_fused_block_skips_its_attention_and_a_partial_one_reads_it(self, toy_fused):
        anatomy = toy_fused(1)
        fresh = table(anatomy)
        fresh[1, 0, -2:] = 0, 0
        fresh[2, 0, -2:] = 0, 5
        amounts = plan(anatomy, fresh).amounts
        assert amounts[1:3, 0, -2:].tolist() == [[SKIPPED, 0], [0, 5]]

    def test_a_copied_pass_is_skipped(self, toy):
        source = np.array([[-1, -1], [-1, 0], [-1, -1], [-1, 0]], dtype=np.int8)
        made = plan(toy(), table(toy(), passes=2), passes=2, source=source)
        assert (made.amounts[[1, 3], 1] == SKIPPED).all()
        assert (made.amounts[:, 0] == ALL).all()
        assert (made.amounts[[0, 2], 1] == ALL).all()

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ([ALL, ALL], "full"),
            ([ALL, SKIPPED], "full"),
            ([0, 0], "reuse"),
            ([0, SKIPPED], "reuse"),
            ([SKIPPED, SKIPPED], "reuse"),
            ([0, 3], "partial"),
            ([ALL, 0], "partial"),
            ([ALL, 3], "partial"),
        ],
    )
    def test_the_kind_of_a_step(self, row, kind):
        assert kind_of(np.array(row)) == kind


class TestChoices:
    """Amounts 2 and 3 in block 1, 4 and 5 in block 2 (cross-attention, MLP); block 0 computes all."""

    @pytest.fixture
    def fresh(self, toy):
        fresh = table(toy())
        fresh[1, 0] = [ALL, ALL, ALL, 0, 2, 3, 0, 4, 5]
        return fresh

    @pytest.mark.parametrize(
        ("share", "choices", "scopes"),
        [
            ("sublayer", [0, 0, 0, 0, 2, 3, 0, 4, 5], [(1,), (2,), (4,), (5,), (7,), (8,)]),
            ("block", [0, 0, 0, 0, 3, 0, 0, 5, 0], [(1, 2), (4, 5), (7, 8)]),
            ("step", [0, 0, 0, 0, 5, 0, 0, 0, 0], [(1, 2, 4, 5, 7, 8)]),
        ],
    )
    def test_the_first_partial_site_chooses_as_many_as_the_largest_needs(self, toy, fresh, share, choices, scopes):
        made = plan(toy(), fresh, share=share)
        assert made.choices[1, 0].tolist() == choices
        assert list(made.scopes) == scopes
        assert not made.choices[[0, 2, 3]].any()

    def test_token_groups_never_share(self, toy_fused):
        made = plan(toy_fused(), table(toy_fused()), share="step")
        groups = [{made.sites[i].group for i in scope} for scope in made.scopes]
        assert groups == [{"image"}, {"text"}, {"joint"}]

    def test_a_second_pass_follows_the_first_only_where_both_choose_together(self, toy):
        fresh = table(toy(), passes=2)
        fresh[1, :, 2] = 3
        together = plan(toy(), fresh, passes=2, together=True)
        assert (together.follows(0), together.follows(1)) == (False, True)
        assert together.choices[1, :, 2].tolist() == [3, 0]
        apart = plan(toy(), fresh, passes=2)
        assert not apart.follows(1)
        assert apart.choices[1, :, 2].tolist() == [3, 3]

    def test_a_pass_of_another_shape_does_not_follow(self, toy):
        other = Plan((toy(), toy(tokens=8)), table(toy(), passes=2), Policy(together=True), "by hand")
        assert not other.follows(1)
        other = Plan((toy(), toy(rows=4)), table(toy(), passes=2), Policy(together=True), "by hand")
        assert not other.follows(1)


class TestRebased:
    def test_another_batch_and_dtype_keep_the_amounts(self, toy):
        fresh = table(toy())
        fresh[1, 0, 2] = 3
        moved = plan(toy(), fresh).rebased([toy(rows=8, itemsize=2)])
        assert moved.anatomies[0].shape.rows == 8
        assert np.array_equal(moved.fresh, fresh)

    def test_more_passes_repeat_the_last_and_fewer_drop_it(self, toy):
        fresh = table(toy(), passes=2)
        fresh[1, 0, 2], fresh[1, 1, 2] = 3, 5
        source = np.array([[-1, -1], [-1, -1], [-1, 0], [-1, -1]], dtype=np.int8)
        made = plan(toy(), fresh, passes=2, source=source)
        three = made.rebased([toy()] * 3)
        assert three.fresh[1, :, 2].tolist() == [3, 5, 5]
        assert three.source[2].tolist() == [-1, 0, 0]
        one = made.rebased([toy()])
        assert one.fresh[1, :, 2].tolist() == [3]

    def test_what_differs_is_named(self, toy, toy_fused):
        made = plan(toy(), table(toy()))
        with pytest.raises(PlanMismatchError, match="image tokens: plan 16, here 32"):
            made.rebased([toy(tokens=32)])
        with pytest.raises(PlanMismatchError, match=r"model: plan Toy \(toy\), here ToyFused \(toy-fused\)"):
            made.rebased([toy_fused()])
        with pytest.raises(PlanMismatchError, match="sites: plan has 9, this model 12"):
            made.rebased([toy(4)])
        fused = toy_fused()
        with pytest.raises(PlanMismatchError, match=r"joint tokens: plan 16, here 20; text tokens: plan 4, here 8"):
            plan(fused, table(fused)).rebased([toy_fused(text=8)])

    def test_passes_with_different_token_counts_each_match_their_own(self, toy_fused):
        anatomies = (toy_fused(text=4), toy_fused(text=8))
        made = Plan(anatomies, table(anatomies[0], passes=2), Policy(), "by hand")
        assert made.rebased(anatomies).anatomies == anatomies
        with pytest.raises(PlanMismatchError, match="text tokens"):
            made.rebased(anatomies[::-1])

    def test_regions_are_carried_over(self, toy):
        anatomy = toy().with_region("blocks", 0, 1)
        moved = plan(anatomy, table(anatomy)).rebased([toy(rows=6)])
        assert [s.name for s in moved.sites] == [s.name for s in anatomy.sites]

    def test_a_region_that_the_other_model_lacks_is_a_mismatch(self, toy, toy_fused):
        anatomy = toy(6).with_region("blocks", 0, 5)
        for other in (toy(3), toy_fused()):
            with pytest.raises(PlanMismatchError, match="made for something else"):
                plan(anatomy, table(anatomy, 2)).rebased([other])


class TestResampled:
    @pytest.mark.parametrize(("old", "new"), [(50, 20), (20, 50), (7, 7), (9, 1), (1, 9), (50, 49), (3, 100)])
    def test_each_step_takes_the_row_nearest_in_time(self, toy, old, new):
        fresh = table(toy(), old)
        fresh[1:, 0, 2] = np.arange(1, old) % 17  # every row tells where it came from
        fresh[::3, 0, 2] = ALL
        source = np.full((old, 1), -1, dtype=np.int8)
        made = plan(toy(), fresh, source=source).resampled(new)
        assert made.steps == len(made.source) == new
        at = np.rint(np.arange(new) * (old - 1) / max(1, new - 1)).astype(int)
        assert np.array_equal(made.fresh, fresh[at])
        assert (made.fresh[0] == ALL).all()

    def test_proportions_are_kept(self, toy):
        fresh = table(toy(), 51)
        for step in range(51):
            fresh[step, 0, 1::3] = ALL if step % 3 == 0 else 0
        share = (plan(toy(), fresh).resampled(201).fresh[:, 0, 1] == ALL).mean()
        assert share == pytest.approx(1 / 3, abs=0.03)

    def test_copies_are_stretched_alike(self, toy):
        source = np.array([[-1, -1], [-1, 0], [-1, 0]], dtype=np.int8)
        made = plan(toy(), table(toy(), 3, 2), passes=2, source=source).resampled(6)
        assert made.source[:, 1].tolist() == [-1, -1, 0, 0, 0, 0]

    def test_steps_must_be_positive(self, toy):
        with pytest.raises(PlanError, match="steps=0 is not allowed"):
            plan(toy(), table(toy())).resampled(0)


class TestRounding:
    @pytest.mark.parametrize(
        ("multiple", "wanted"), [(1, [1, 3, 8, 15]), (4, [4, 4, 8, 16]), (6, [6, 6, 12, 16]), (99, [16] * 4)]
    )
    def test_amounts_between_none_and_all_are_raised_to_multiples_or_to_all_there_are(self, toy, multiple, wanted):
        fresh = table(toy(), steps=7)
        fresh[1:5, 0, 2], fresh[5, 0, 2] = [1, 3, 8, 15], 0
        rounded = plan(toy(), fresh).rounded(multiple)
        assert rounded.fresh[1:5, 0, 2].tolist() == wanted
        assert (rounded.fresh[[0, 5, 6], 0, 2].tolist()) == [ALL, 0, ALL]
        assert (np.delete(rounded.fresh, 2, axis=2) == ALL).all()

    def test_padding_is_not_computed_for_the_sake_of_a_multiple(self, toy):
        anatomy = toy()
        shape = replace(anatomy.shape, tokens={**anatomy.shape.tokens, "present": 10})
        sites = tuple(replace(site, counted="present") if site.rows else site for site in anatomy.sites)
        fresh = table(anatomy)
        fresh[1:, 0, 2] = [7, 10, 13]
        padded = plan(replace(anatomy, shape=shape, sites=sites), fresh)
        assert padded.rounded(8).fresh[1:, 0, 2].tolist() == [8, 10, 13]

    @pytest.mark.parametrize("multiple", [0, -8, 2.0, "8"])
    def test_other_multiples_are_refused(self, toy, multiple):
        with pytest.raises(OptionError, match=f"multiple={multiple!r} is not allowed; allowed: an integer >= 1"):
            plan(toy(), table(toy())).rounded(multiple)
